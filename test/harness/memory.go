// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"
)

// Environment variables of Go: its own limit in bytes, and by how many per cent the heap
// grows before garbage is collected.
const (
	goMemoryLimit       = "GOMEMLIMIT"
	goGarbageCollection = "GOGC"
)

// memory is what the Deployment of config/ gives to the controller.
type memory struct {
	limit int64 // bytes
	env   []string
}

// deployedMemory reads the memory of the controller from the Deployment.
func deployedMemory() (memory, error) {
	file := filepath.Join(Root(), "config", "400-controller.yaml")
	content, err := os.ReadFile(file)
	if err != nil {
		return memory{}, err
	}
	for document := range strings.SplitSeq(string(content), "\n---\n") {
		var deployment appsv1.Deployment
		if err := yaml.Unmarshal([]byte(document), &deployment); err != nil {
			return memory{}, fmt.Errorf("%s: %w", file, err)
		}
		if deployment.Kind != "Deployment" {
			continue
		}
		container := deployment.Spec.Template.Spec.Containers[0]
		m := memory{limit: container.Resources.Limits.Memory().Value()}
		for _, variable := range container.Env {
			if variable.Name == goMemoryLimit || variable.Name == goGarbageCollection {
				m.env = append(m.env, variable.Name+"="+variable.Value)
			}
		}
		if m.limit == 0 || len(m.env) != 2 {
			return memory{}, fmt.Errorf("%s: the container %s has limits.memory %d and %q, expected a limit, %s and %s", file, container.Name, m.limit, m.env, goMemoryLimit, goGarbageCollection)
		}
		return m, nil
	}
	return memory{}, fmt.Errorf("%s has no Deployment", file)
}

// memoryWatch ends a process that takes more memory than its limit, as the kernel
// does in a container.
type memoryWatch struct {
	limit int64

	mu  sync.Mutex
	err error
}

// watch begins to watch a process, until the process has ended.
func (w *memoryWatch) watch(pid int) {
	go func() {
		for range time.Tick(PollInterval) {
			used, err := peakMemory(pid)
			if err != nil {
				return // the process has ended
			}
			if used > w.limit {
				w.exceeded(pid, used)
				return
			}
		}
	}()
}

func (w *memoryWatch) exceeded(pid int, used int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = fmt.Errorf("the controller took %d MiB of memory, its Deployment allows %d MiB", used>>20, w.limit>>20)
	if process, err := os.FindProcess(pid); err == nil {
		_ = process.Kill() // it may have ended meanwhile
	}
}

func (w *memoryWatch) check() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// ProcessMemory returns an entry of /proc/PID/status, such as VmHWM, in bytes. The
// entries are in proc_pid_status(5). The error says that the process has ended, or
// that there is no such entry.
func ProcessMemory(pid int, entry string) (int64, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(content), "\n"+entry+":")
	kibibytes, _, _ := strings.Cut(strings.TrimSpace(after), " ")
	n, err := strconv.ParseInt(kibibytes, 10, 64)
	return n << 10, err
}

// peakMemory returns the most memory that a process ever took.
func peakMemory(pid int) (int64, error) { return ProcessMemory(pid, "VmHWM") }

// PeakMemory returns the most memory that the replica took since it started, in bytes.
func (c *Controller) PeakMemory(ctx context.Context) (int64, error) {
	part, err := c.cluster.Part(ctx, c.Name)
	if err != nil {
		return 0, err
	}
	return peakMemory(part.PID)
}

// watchMemory watches the process of the replica. The race detector multiplies the
// memory, so that the limit says nothing about a controller with it.
func (c *Controller) watchMemory(ctx context.Context) error {
	if c.cluster.Race {
		return nil
	}
	part, err := c.cluster.Part(ctx, c.Name)
	if err == nil {
		c.memory.watch(part.PID)
	}
	return err
}
