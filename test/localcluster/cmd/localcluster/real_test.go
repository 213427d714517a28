// SPDX-License-Identifier: Apache-2.0

//go:build realnode

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/build"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/realnode"
)

// TestRealNode_RunsContainersAndLeavesNothing runs a TaskRun and a Pod in containers. Then the cluster ends, once in
// order and once by SIGKILL: after down, nothing of a container is left.
func TestRealNode_RunsContainersAndLeavesNothing(t *testing.T) {
	dir, err := os.MkdirTemp("", "lc-") // the name of t.TempDir() is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	c := testCluster{dir: dir, bin: realBinaries(t)}
	t.Cleanup(func() {
		out, err := c.try(context.Background(), "down")
		if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	up := func() { t.Log(c.run(t, "up", "--bin", c.bin, "--node", "real")) }
	up()
	c.run(t, "apply", "testdata/real.yaml")
	status, reason, results := c.outcome(t, "in-a-container")
	if want := "[map[name:init type:string value:/tekton/bin/entrypoint]]"; status != "True" || results != want {
		t.Errorf("TaskRun: status %s, reason %s, results %s, want %s", status, reason, results, want)
	}
	c.waitContainers(t)
	c.run(t, "down")
	if left := c.containers(t); len(left) > 0 {
		t.Errorf("after down, these are left: %q", left)
	}

	up()
	c.waitContainers(t)
	if err := syscall.Kill(c.state(t).PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if len(c.containers(t)) == 0 {
		t.Error("nothing survives a killed supervisor: this test shows nothing about cleaning up")
	}
	c.run(t, "down")
	if left := c.containers(t); len(left) > 0 {
		t.Errorf("after a killed supervisor and down, these are left: %q", left)
	}
}

func realBinaries(t *testing.T) string {
	t.Helper()
	module, err := build.FindModule()
	if err != nil {
		t.Fatal(err)
	}
	bin := binaries(t)
	if err := build.All(t.Context(), module, bin, build.RealNode, t.Logf); err != nil {
		t.Fatal(err)
	}
	return bin
}

// waitContainers waits until the process of the Pod runs.
func (c testCluster) waitContainers(t *testing.T) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), poll, within, true, func(context.Context) (bool, error) {
		return slices.ContainsFunc(c.containers(t), func(what string) bool { return strings.Contains(what, "sleep") }), nil
	})
	if err != nil {
		t.Fatalf("no container sleeps: %v; found %q", err, c.containers(t))
	}
}

// containers describes what exists of the containers of the cluster: shims, processes, mounts, cgroups and sockets.
func (c testCluster) containers(t *testing.T) []string {
	t.Helper()
	socket := realnode.New(c.dir, 1).Socket()
	run := filepath.Dir(filepath.Dir(socket)) // its name identifies the cluster
	name := "localcluster-" + filepath.Base(run)
	var found []string
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range processes {
		command, _ := os.ReadFile(filepath.Join(process, "cmdline")) // the process may have ended
		cgroups, _ := os.ReadFile(filepath.Join(process, "cgroup"))
		text := strings.ReplaceAll(string(command), "\x00", " ")
		if strings.Contains(string(cgroups), name) || strings.Contains(text, "shim") && strings.Contains(text, socket) {
			found = append(found, fmt.Sprintf("%s: %s", process, text))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, run) || strings.Contains(line, c.dir) {
			found = append(found, line)
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup/" + name + "*", "/sys/fs/cgroup/*/" + name + "*"} {
		cgroups, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, cgroups...)
	}
	if _, err := os.Stat(run); !errors.Is(err, os.ErrNotExist) {
		found = append(found, run)
	}
	return found
}
