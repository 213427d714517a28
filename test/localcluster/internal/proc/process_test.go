// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proctest"
)

const within = 20 * time.Second

// supervise is an environment variable that makes the test binary a supervisor of one child, for the test that
// kills the supervisor.
const supervise = "PROC_TEST_SUPERVISE"

func TestMain(m *testing.M) {
	if log := os.Getenv(supervise); log != "" {
		p := New(NewForker(), Spec{Name: "child", Path: "/bin/sleep", Args: []string{"1000"}, LogFile: log}, nil)
		if err := p.Start(context.Background()); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(p.Status().PID)
		select {} // until it is killed
	}
	os.Exit(m.Run())
}

// shell returns a process that runs a shell script, and a channel with its unexpected exits.
func shell(t *testing.T, script string, change ...func(*Spec)) (*Process, chan Status) {
	t.Helper()
	spec := Spec{
		Name: "part", Path: "/bin/sh", Args: []string{"-c", script},
		LogFile: filepath.Join(t.TempDir(), "part.log"), StartTimeout: within,
	}
	for _, c := range change {
		c(&spec)
	}
	exited := make(chan Status, 1)
	p := New(NewForker(), spec, func(s Status) { exited <- s })
	t.Cleanup(p.Kill)
	return p, exited
}

// logged sets Ready to a check that the log contains a text.
func logged(text string) func(*Spec) {
	return func(s *Spec) {
		s.Ready = func(context.Context, time.Time) error {
			data, err := os.ReadFile(s.LogFile)
			if err == nil && !strings.Contains(string(data), text) {
				return fmt.Errorf("no %q in its log", text)
			}
			return err
		}
	}
}

func TestProcess_StartsStopsAndKills(t *testing.T) {
	ctx := t.Context()
	p, _ := shell(t, "echo up; exec sleep 1000", logged("up"))
	if s := p.Status(); s.State != Stopped || s.PID != 0 {
		t.Fatalf("before start: %+v, want stopped without PID", s)
	}
	if err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	first := p.Status()
	if first.State != Running || first.PID == 0 {
		t.Fatalf("after start: %+v, want running", first)
	}
	if err := p.Start(ctx); err != nil || p.Status().PID != first.PID {
		t.Errorf("second start: %v, PID %d; want the same process %d", err, p.Status().PID, first.PID)
	}
	for range 2 { // the second Stop finds a stopped process
		if err := p.Stop(ctx); err != nil {
			t.Fatal(err)
		}
		if s := p.Status(); s.State != Stopped || s.Exit != "signal: terminated" {
			t.Errorf("after stop: %+v, want stopped by SIGTERM", s)
		}
	}
	if err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	if s := p.Status(); s.State != Stopped || s.Exit != "signal: killed" {
		t.Errorf("after kill: %+v, want stopped by SIGKILL", s)
	}
}

func TestProcess_ReportsUnexpectedExit(t *testing.T) {
	p, exited := shell(t, "exit 3")
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case s := <-exited:
		if s.State != Exited || s.Exit != "exit status 3" {
			t.Errorf("reported %+v, want exited with status 3", s)
		}
	case <-time.After(within):
		t.Fatal("the exit was not reported")
	}
}

func TestStart_ExplainsFailure(t *testing.T) {
	for _, tc := range []struct {
		name, script string
		change       []func(*Spec)
		want         []string
	}{{
		name: "process ends", script: "echo the reason; exit 4", change: []func(*Spec){logged("never")},
		want: []string{"ended before it was healthy", "exit status 4", "the reason"},
	}, {
		name: "process is never healthy", script: "echo the reason; exec sleep 1000",
		change: []func(*Spec){logged("never"), func(s *Spec) { s.StartTimeout = 300 * time.Millisecond }},
		want:   []string{"not healthy after 300ms", `no "never" in its log`, "the reason"},
	}, {
		name: "program does not exist", change: []func(*Spec){func(s *Spec) { s.Path = "/nonexistent" }},
		want: []string{"start part", "/nonexistent"},
	}} {
		t.Run(tc.name, func(t *testing.T) {
			p, _ := shell(t, tc.script, tc.change...)
			err := p.Start(t.Context())
			if err == nil {
				t.Fatal("Start returned no error")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
		})
	}
}

func TestStop_KillsProcessThatIgnoresSIGTERM(t *testing.T) {
	p, _ := shell(t, "trap '' TERM; echo up; while :; do sleep 0.1; done", logged("up"), func(s *Spec) {
		s.StopTimeout = 200 * time.Millisecond
	})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(t.Context()); !errors.Is(err, ErrKilled) {
		t.Errorf("stop: %v, want ErrKilled", err)
	}
	if s := p.Status(); s.State != Stopped {
		t.Errorf("after stop: %+v, want stopped", s)
	}
}

func TestKill_EndsPendingStart(t *testing.T) {
	p, _ := shell(t, "echo up; exec sleep 1000", logged("never"))
	failed := make(chan error)
	go func() { failed <- p.Start(t.Context()) }()
	if err := wait.PollUntilContextTimeout(t.Context(), pollInterval, within, true, func(context.Context) (bool, error) {
		return p.Status().State == Running, nil
	}); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("start of a process that was killed: got error %v, want signal: killed", err)
	}
}

func TestStart_WaitsForPendingStop(t *testing.T) {
	p, _ := shell(t, "trap 'sleep 0.3; exit 0' TERM; echo up; while :; do sleep 0.05; done", logged("up"))
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := p.Status().PID
	p.request(syscall.SIGTERM)
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := p.Status(); s.State != Running || s.PID == first {
		t.Errorf("after stop and start: %+v, want a process other than %d", s, first)
	}
}

func TestStart_ErrorShowsOnlyOwnLog(t *testing.T) {
	p, _ := shell(t, "echo second; exit 1", logged("never"), func(s *Spec) {
		if err := os.WriteFile(s.LogFile, []byte("first\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	err := p.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "second") || strings.Contains(err.Error(), "first") {
		t.Errorf("error %v, want one with the log of the last process only", err)
	}
}

func TestForker_KillsChildrenWithSupervisor(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	supervisor := exec.CommandContext(t.Context(), self)
	supervisor.Env = append(os.Environ(), supervise+"="+filepath.Join(t.TempDir(), "log"))
	stdout, err := supervisor.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := supervisor.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the supervisor printed %q, want a process ID", line)
	}
	if proctest.Gone(child) {
		t.Fatal("the child does not run")
	}
	if err := supervisor.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = supervisor.Wait() // killed
	if err := wait.PollUntilContextTimeout(t.Context(), pollInterval, within, true, func(context.Context) (bool, error) {
		return proctest.Gone(child), nil
	}); err != nil {
		t.Errorf("the child still runs after its supervisor was killed: %v", err)
	}
}

func TestTail_ReturnsLastLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte("a\nb\nc\nd\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		start int64
		n     int
		want  string
	}{
		{0, 2, "  c\n  d"},
		{4, 10, "  c\n  d"},
		{8, 10, "  (empty)"},
	} {
		got, err := Tail(file, tc.start, tc.n)
		if err != nil || got != tc.want {
			t.Errorf("Tail(from %d, %d lines) = %q, %v; want %q", tc.start, tc.n, got, err, tc.want)
		}
	}
	if _, err := Tail(file+"x", 0, 1); err == nil {
		t.Error("Tail of a missing file returned no error")
	}
}
