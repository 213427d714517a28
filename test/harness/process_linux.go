package harness

import (
	"os/exec"
	"runtime"
	"syscall"
)

// dieWithParent asks the kernel to kill the process when the thread that
// started it ends.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// startOnLockedThread starts cmd from a thread that lives as long as this
// process, because dieWithParent is about the thread (prctl(2)).
func startOnLockedThread(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		started <- cmd.Start()
		select {} // hold the thread
	}()
	return <-started
}
