package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// What stands beside the parts of the cluster where CPU time is reported.
const (
	wholeMachine = "all processes"
	thisProgram  = "this program"
)

const partEtcd = "etcd"

// processes are process IDs by name.
type processes map[string]int

// processes are those that a write keeps busy, and more of them.
func (b *bench) processes(ctx context.Context, more ...string) (processes, error) {
	found := processes{thisProgram: os.Getpid()}
	for _, name := range append([]string{harness.PartAPIServer, partEtcd, harness.PartTektonWebhook}, more...) {
		part, err := b.cluster.Part(ctx, name)
		if err != nil {
			return nil, err
		}
		found[name] = part.PID
	}
	return found, nil
}

// cpuTimes are CPU times up to one moment.
type cpuTimes struct {
	at   time.Time
	used map[string]time.Duration
}

func (p processes) cpuTimes() (cpuTimes, error) {
	times := cpuTimes{at: time.Now(), used: map[string]time.Duration{}}
	var err error
	if times.used[wholeMachine], err = machineCPU(); err != nil {
		return times, err
	}
	for name, pid := range p {
		if times.used[name], err = processCPU(pid); err != nil {
			return times, err
		}
	}
	return times, nil
}

// cores is how many cores each process kept busy on average between two moments.
func cores(from, to cpuTimes) map[string]float64 {
	busy := map[string]float64{}
	for name, used := range to.used {
		busy[name] = (used - from.used[name]).Seconds() / to.at.Sub(from.at).Seconds()
	}
	return busy
}

// A process is idle when it used less than idleCPU in each of idlePolls polls.
const (
	idlePoll    = 500 * time.Millisecond
	idlePolls   = 6
	idleCPU     = 25 * time.Millisecond
	idleTimeout = 5 * time.Minute
)

// waitIdle waits until a process has been idle for 3 seconds, and returns when
// that began.
func waitIdle(ctx context.Context, pid int) (since time.Time, err error) {
	var before time.Duration
	idle := 0
	err = wait.PollUntilContextTimeout(ctx, idlePoll, idleTimeout, true, func(context.Context) (bool, error) {
		used, err := processCPU(pid)
		if err != nil {
			return false, err
		}
		idle++
		if used-before >= idleCPU {
			idle, since = 0, time.Now()
		}
		before = used
		return idle == idlePolls, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("process %d does not come to rest: %w", pid, err)
	}
	return since, err
}
