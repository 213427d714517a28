// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	defaultStartTimeout = 90 * time.Second
	defaultStopTimeout  = 30 * time.Second
	attemptTimeout      = 5 * time.Second // for one call of Ready
	pollInterval        = 50 * time.Millisecond
)

// ErrKilled means that a process was killed because it did not end after SIGTERM.
var ErrKilled = errors.New("did not end after SIGTERM and was killed")

// Process is a supervised child process. Its methods are safe for concurrent use: only one Start runs at a time,
// and Stop and Kill end a Start that still waits for health.
type Process struct {
	spec   Spec
	forker *Forker
	onExit func(Status)

	starting sync.Mutex // held during Start

	mu        sync.Mutex // guards everything below
	cmd       *exec.Cmd
	done      chan struct{} // closed when cmd has been waited for
	requested bool          // Stop or Kill has asked the process to end
	state     State
	since     time.Time
	exit      string
	logStart  int64 // size of the log file when cmd was started
}

// New returns a process that is not started. onExit, if set, is called when the process ends without a request.
func New(forker *Forker, spec Spec, onExit func(Status)) *Process {
	if spec.StartTimeout == 0 {
		spec.StartTimeout = defaultStartTimeout
	}
	if spec.StopTimeout == 0 {
		spec.StopTimeout = defaultStopTimeout
	}
	return &Process{spec: spec, forker: forker, onExit: onExit, state: Stopped, since: time.Now()}
}

// Status returns the current state.
func (p *Process) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.statusLocked()
}

func (p *Process) statusLocked() Status {
	s := Status{Name: p.spec.Name, State: p.state, Since: p.since, Exit: p.exit, Log: p.spec.LogFile}
	if p.state == Running {
		s.PID = p.cmd.Process.Pid
	}
	return s
}

// Start starts the process and waits until it is healthy. If the process runs already, Start only waits. If the
// process is not healthy in time, it keeps running, so that users can examine it.
func (p *Process) Start(ctx context.Context) error {
	p.starting.Lock()
	defer p.starting.Unlock()
	if err := p.waitEnding(ctx); err != nil {
		return fmt.Errorf("start %s: %w", p.spec.Name, err)
	}
	if p.Status().State != Running {
		if err := p.launch(ctx); err != nil {
			return fmt.Errorf("start %s: %w", p.spec.Name, err)
		}
	}
	return p.waitHealthy(ctx)
}

// waitEnding waits until a process that was asked to end has ended.
func (p *Process) waitEnding(ctx context.Context) error {
	p.mu.Lock()
	ending, done := p.state == Running && p.requested, p.done
	p.mu.Unlock()
	if !ending {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *Process) launch(ctx context.Context) error {
	log, err := os.OpenFile(p.spec.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open its log: %w", err)
	}
	defer func() { _ = log.Close() }() // the child has its own file descriptor
	info, err := log.Stat()
	if err != nil {
		return fmt.Errorf("read the size of its log: %w", err)
	}

	// The process continues after the request to start it has ended.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), p.spec.Path, p.spec.Args...)
	cmd.Env = append(os.Environ(), p.spec.Env...)
	cmd.Dir = p.spec.Dir
	cmd.Stdout, cmd.Stderr = log, log

	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.forker.Start(cmd); err != nil {
		return err
	}
	p.cmd, p.done, p.requested = cmd, make(chan struct{}), false
	p.state, p.since, p.exit, p.logStart = Running, time.Now(), "", info.Size()
	go p.reap(cmd, p.done)
	return nil
}

// reap waits for the process and records how it ended.
func (p *Process) reap(cmd *exec.Cmd, done chan<- struct{}) {
	exit := "exit status 0"
	if err := cmd.Wait(); err != nil {
		exit = err.Error()
	}
	p.mu.Lock()
	p.state = Exited
	if p.requested {
		p.state = Stopped
	}
	p.since, p.exit = time.Now(), exit
	status := p.statusLocked()
	p.mu.Unlock()
	close(done)
	if status.State == Exited && p.onExit != nil {
		p.onExit(status)
	}
}

func (p *Process) waitHealthy(ctx context.Context) error {
	if p.spec.Ready == nil {
		return nil
	}
	p.mu.Lock()
	done, started, pid := p.done, p.since, p.cmd.Process.Pid
	p.mu.Unlock()

	last := errors.New("the health check did not run") // why the process is not healthy
	err := wait.PollUntilContextTimeout(ctx, pollInterval, p.spec.StartTimeout, true, func(ctx context.Context) (bool, error) {
		select {
		case <-done:
			return false, errors.New(p.Status().Exit)
		default:
		}
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
		err := p.spec.Ready(attempt, started)
		if ctx.Err() == nil {
			last = err
		}
		return err == nil, nil
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("start %s: %w", p.spec.Name, context.Cause(ctx))
	case wait.Interrupted(err):
		return fmt.Errorf("%s (pid %d) is not healthy after %s: %w%s", p.spec.Name, pid, p.spec.StartTimeout, last, p.logTail())
	default:
		return fmt.Errorf("%s (pid %d) ended before it was healthy: %w%s", p.spec.Name, pid, err, p.logTail())
	}
}

// logTail returns a suffix for error messages: the last log lines of the current process.
func (p *Process) logTail() string {
	p.mu.Lock()
	start := p.logStart
	p.mu.Unlock()
	lines, err := Tail(p.spec.LogFile, start, 15)
	if err != nil {
		return fmt.Sprintf("\n  (cannot read its log: %v)", err)
	}
	return fmt.Sprintf("\nend of %s:\n%s", p.spec.LogFile, lines)
}

// Stop sends SIGTERM and waits until the process has ended. After StopTimeout, or when ctx ends, Stop kills the
// process and returns ErrKilled. Stopping a process that does not run is not an error.
func (p *Process) Stop(ctx context.Context) error {
	done := p.request(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, p.spec.StopTimeout)
	defer cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		<-p.request(syscall.SIGKILL)
		return fmt.Errorf("%s %w", p.spec.Name, ErrKilled)
	}
}

// Kill sends SIGKILL and waits until the process has ended.
func (p *Process) Kill() {
	<-p.request(syscall.SIGKILL)
}

// request signals the whole process group. It returns a channel that is closed when the process has ended.
func (p *Process) request(sig syscall.Signal) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != Running {
		p.state = Stopped
		gone := make(chan struct{})
		close(gone)
		return gone
	}
	p.requested = true
	// An error means that the process group has ended already.
	_ = syscall.Kill(-p.cmd.Process.Pid, sig)
	return p.done
}
