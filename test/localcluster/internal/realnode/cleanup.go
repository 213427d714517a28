// SPDX-License-Identifier: Apache-2.0

package realnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	// endWithin is how long containers may take to end after SIGTERM.
	endWithin = 2 * time.Second
	// killedWithin is how long the kernel may take to remove killed processes.
	killedWithin = 10 * time.Second
	pollInterval = 50 * time.Millisecond

	// containerLogs is a directory that the kubelet cannot have elsewhere. It has links to logs.
	containerLogs = "/var/log/containers"
)

// CleanUp ends all containers of the nodes of the cluster in dir and removes their mounts, cgroups and sockets.
// Their data stays. The kubelets and containerds have ended already, in order or killed. Repeating CleanUp, or a
// cluster that never had a real node, is not an error.
func CleanUp(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	var errs []error
	for number := range MaxNodes {
		n := New(dir, number+1)
		if _, err := os.Stat(n.root); errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := n.cleanUp(ctx); err != nil {
			errs = append(errs, fmt.Errorf("clean up after node %s: %w", n.Address, err))
		}
	}
	return errors.Join(errs...)
}

func (n Node) cleanUp(ctx context.Context) error {
	if err := end(ctx, n.containerProcesses, syscall.SIGTERM, endWithin); err != nil {
		if err := end(ctx, n.containerProcesses, syscall.SIGKILL, killedWithin); err != nil {
			return err
		}
	}
	if err := end(ctx, n.shims, syscall.SIGKILL, killedWithin); err != nil {
		return err
	}
	n.removeShimSockets()
	err := errors.Join(
		unmountBelow(n.root, n.run),
		n.removeCgroups(),
		n.removeLogLinks(),
		os.RemoveAll(n.run),
	)
	_ = os.Remove(filepath.Dir(n.run)) // an error means that another node of the cluster is left
	return err
}

// shims returns the processes that containerd has started to look after containers. They survive containerd.
func (n Node) shims() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue // not a process
		}
		content, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if err != nil {
			continue // the process has ended
		}
		if isShim(bytes.Split(content, []byte{0}), n.Socket()) {
			found = append(found, pid)
		}
	}
	return found, nil
}

// isShim reports whether a command line is that of a shim of the containerd at the socket.
func isShim(command [][]byte, socket string) bool {
	if !strings.HasPrefix(filepath.Base(string(command[0])), "containerd-shim") {
		return false
	}
	i := slices.IndexFunc(command, func(arg []byte) bool { return string(arg) == "-address" })
	return i >= 0 && i+1 < len(command) && string(command[i+1]) == socket
}

// end sends a signal to processes until none is left.
func end(ctx context.Context, list func() ([]int, error), signal syscall.Signal, within time.Duration) error {
	var left []int
	err := wait.PollUntilContextTimeout(ctx, pollInterval, within, true, func(context.Context) (bool, error) {
		processes, err := list()
		if err != nil {
			return false, err
		}
		for _, pid := range processes {
			_ = syscall.Kill(pid, signal) // an error means that the process has ended
		}
		left = processes
		return len(left) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("processes %v have not ended after %v: %w", left, signal, err)
	}
	return nil
}

// removeShimSockets removes the sockets of killed shims, which are not below the directories of the node. containerd
// keeps the address of each.
func (n Node) removeShimSockets() {
	files, _ := filepath.Glob(filepath.Join(n.containerdState(), "io.containerd.runtime.v2.task", "*", "*", "address")) // the pattern is valid
	for _, file := range files {
		address, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if socket, found := strings.CutPrefix(strings.TrimSpace(string(address)), "unix://"); found {
			_ = os.Remove(socket) // shims that ended in order have removed their sockets
		}
	}
}

// removeLogLinks removes the links that the kubelet has made to the logs of this node.
func (n Node) removeLogLinks() error {
	links, err := filepath.Glob(filepath.Join(containerLogs, "*.log"))
	if err != nil {
		return err
	}
	var errs []error
	for _, link := range links {
		target, err := os.Readlink(link)
		if err == nil && strings.HasPrefix(target, n.podLogs()+"/") {
			errs = append(errs, os.Remove(link))
		}
	}
	return errors.Join(errs...)
}
