// SPDX-License-Identifier: Apache-2.0

//go:build realnode

package realnode

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	corev1 "k8s.io/api/core/v1"

	"github.com/trusted-resources/chains-extension/test/harness"
)

func cleanupContext() context.Context { return context.Background() }

func publicPEM(e env, key crypto.PublicKey) []byte {
	e.t.Helper()
	text, err := cryptoutils.MarshalPublicKeyToPEM(key)
	e.check(err)
	return text
}

// process returns the process of the controller in a Pod, as this machine sees it. The
// name of its cgroup contains the UID of the Pod.
func (e env) process(pod *corev1.Pod) int {
	e.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	e.check(err)
	for _, file := range files {
		cgroups, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(cgroups), "pod"+string(pod.UID)) {
			continue // it has ended, or belongs to something else
		}
		dir := filepath.Dir(file)
		program, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil || filepath.Base(program) != "controller" {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		e.check(err)
		return pid
	}
	e.t.Fatalf("no process of Pod %s runs on this machine", pod.Name)
	return 0
}

// usage is what the process of a Pod has used.
type usage struct {
	cpu    time.Duration
	memory int64 // bytes
}

// ticksPerSecond is the unit of times in /proc/PID/stat, on all architectures of Linux.
const ticksPerSecond = 100

func (e env) usage(pod *corev1.Pod) usage {
	e.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", e.process(pod)))
	e.check(err)
	_, after, _ := strings.Cut(string(stat), ") ") // the name of the program may have spaces
	fields := strings.Fields(after)
	var ticks int64
	for _, field := range fields[11:13] { // utime and stime, see proc_pid_stat(5)
		n, err := strconv.ParseInt(field, 10, 64)
		e.check(err)
		ticks += n
	}
	return usage{cpu: time.Duration(ticks) * time.Second / ticksPerSecond, memory: e.processMemory(pod, "VmRSS")}
}

func (e env) processMemory(pod *corev1.Pod, entry string) int64 {
	e.t.Helper()
	bytes, err := harness.ProcessMemory(e.process(pod), entry)
	e.check(err)
	return bytes
}
