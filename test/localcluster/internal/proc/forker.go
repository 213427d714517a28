// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Forker starts child processes that the kernel kills (SIGKILL) when this process ends for any reason.
//
// The parent death signal depends on the thread that forked, not on the process, and Go ends idle threads. So
// one goroutine, which is locked to its thread until the process ends, starts all children. The kernel kills
// only direct children, not the processes that a child has started.
type Forker struct {
	requests chan forkRequest
}

type forkRequest struct {
	cmd  *exec.Cmd
	done chan<- error
}

// NewForker starts the forking thread. A process needs one Forker. A Forker cannot be closed.
func NewForker() *Forker {
	f := &Forker{requests: make(chan forkRequest)}
	go f.serve()
	return f
}

func (f *Forker) serve() {
	runtime.LockOSThread() // never unlocked, see Forker
	for r := range f.requests {
		r.done <- r.cmd.Start()
	}
}

// Start calls cmd.Start on the forking thread. The child gets a process group of its own, so a Ctrl-C in the
// terminal reaches only the supervisor, which then stops the children in order.
func (f *Forker) Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	done := make(chan error, 1)
	f.requests <- forkRequest{cmd: cmd, done: done}
	return <-done
}
