// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestDeployedMemory_IsThatOfTheDeployment(t *testing.T) {
	m, err := deployedMemory()
	if err != nil || m.limit < 256<<20 || len(m.env) != 2 || !strings.HasPrefix(m.env[0], "GOMEMLIMIT=") || !strings.HasPrefix(m.env[1], "GOGC=") {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestMemoryWatch_EndsProcessAboveTheLimit(t *testing.T) {
	used, err := peakMemory(os.Getpid())
	if err != nil || used < 1<<20 {
		t.Fatalf("this process takes %d bytes, %v", used, err)
	}
	process := exec.CommandContext(t.Context(), "cat")
	input, err := process.StdinPipe() // cat waits for it
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	generous := &memoryWatch{limit: 1 << 40}
	generous.watch(process.Process.Pid)
	strict := &memoryWatch{limit: 1}
	strict.watch(process.Process.Pid)
	var ended *exec.ExitError
	if err := process.Wait(); !errors.As(err, &ended) || ended.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("cat ended with %v, want SIGKILL", err)
	}
	_ = input.Close() // of a process that has ended
	if err := strict.check(); err == nil || !strings.Contains(err.Error(), "Deployment allows") {
		t.Errorf("the strict watch reports %v", err)
	}
	if err := generous.check(); err != nil {
		t.Errorf("the generous watch reports %v", err)
	}
}
