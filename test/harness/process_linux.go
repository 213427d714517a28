// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"errors"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
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

// waitStopped waits until all threads of a child process have stopped. On a busy machine,
// they run on for some time after SIGSTOP was sent.
func waitStopped(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
