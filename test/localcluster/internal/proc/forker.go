package proc

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Forker starts child processes that the kernel kills (SIGKILL) when this process ends, however it ends.
//
// The kernel ties a parent death signal to the thread that forked, not to the process, and Go ends idle
// threads. So one goroutine, locked to its thread for as long as the process lives, does all forking.
// Only direct children are covered: what a child starts itself is its own business.
type Forker struct {
	requests chan forkRequest
}

type forkRequest struct {
	cmd  *exec.Cmd
	done chan<- error
}

// NewForker starts the forking thread. A process needs one Forker; it cannot be closed.
func NewForker() *Forker {
	f := &Forker{requests: make(chan forkRequest)}
	go f.serve()
	return f
}

func (f *Forker) serve() {
	runtime.LockOSThread() // and never unlock, see Forker
	for r := range f.requests {
		r.done <- r.cmd.Start()
	}
}

// Start is cmd.Start on the forking thread. The child leads a process group of its own, so that a Ctrl-C
// in the terminal reaches the supervisor only, which then stops the children in order.
func (f *Forker) Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	done := make(chan error, 1)
	f.requests <- forkRequest{cmd: cmd, done: done}
	return <-done
}
