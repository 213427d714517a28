// SPDX-License-Identifier: Apache-2.0

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

// Names in the report that are not names of parts of the cluster.
const (
	wholeMachine = "all processes"
	thisProgram  = "this program" // also the bare client
)

const partEtcd = "etcd"

// processes has process IDs by name.
type processes map[string]int

// processes returns this process, the parts of the cluster that take part in
// every write to a Task, and the parts named in more.
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

// cpuTimes has the CPU time that each process has used at one moment.
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

// cores returns the mean number of cores that each process used between two
// moments.
func cores(from, to cpuTimes) map[string]float64 {
	busy := map[string]float64{}
	for name, used := range to.used {
		busy[name] = (used - from.used[name]).Seconds() / to.at.Sub(from.at).Seconds()
	}
	return busy
}

// A process is idle if it uses less than idleCPU between two polls, for idlePolls
// polls.
const (
	idlePoll    = 500 * time.Millisecond
	idlePolls   = 6
	idleCPU     = 25 * time.Millisecond
	idleTimeout = 5 * time.Minute
)

// waitIdle waits until a process has been idle for 3 seconds, and returns the
// start of that time.
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
		err = fmt.Errorf("process %d is not idle after %v: %w", pid, idleTimeout, err)
	}
	return since, err
}
