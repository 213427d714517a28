// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrLocked means that a supervisor runs on the directory.
var ErrLocked = errors.New("a supervisor is running")

// Lock locks the directory for this process until the process ends or unlock is called. The kernel releases the
// lock when the process ends, so a stale lock cannot exist.
func Lock(dir string) (unlock func(), err error) {
	f, err := openLock(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w in %s (pid %d)", ErrLocked, dir, readPID(dir))
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	if err := f.Truncate(0); err != nil {
		_ = f.Close()
		return nil, err
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// Supervisor returns the process ID of the supervisor of dir, or 0 if no supervisor runs.
func Supervisor(dir string) (int, error) {
	if _, err := os.Stat(dir); os.IsNotExist(err) {
		return 0, nil
	}
	f, err := openLock(dir)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return readPID(dir), nil
	}
	return 0, err
}

func lockFile(dir string) string { return filepath.Join(dir, "supervisor.lock") }

func openLock(dir string) (*os.File, error) {
	return os.OpenFile(lockFile(dir), os.O_CREATE|os.O_RDWR, 0o600)
}

func readPID(dir string) int {
	data, err := os.ReadFile(lockFile(dir))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data))) // 0 if the holder has not written its PID yet
	return pid
}
