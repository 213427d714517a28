// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"os/exec"
	"runtime"
	"syscall"
)

// dieWithParent makes the kernel kill a process when the thread that started it ends.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// startOnLockedThread starts cmd from a thread that exists as long as this process. The
// parent death signal depends on the thread, not on the process, see prctl(2).
func startOnLockedThread(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		started <- cmd.Start()
		select {} // hold the thread
	}()
	return <-started
}
