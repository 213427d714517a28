// SPDX-License-Identifier: Apache-2.0

//go:build realnode

package realnode

import (
	"slices"
	"testing"
	"time"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// installations is the number of measured installations.
const installations = 5

// Measures the time from kubectl apply to the first signature. The images are on the nodes,
// and the key, the settings and the Task exist before.
func TestNumbers_FromApplyToFirstSignature(t *testing.T) {
	e := install(t)
	ns := e.namespace()
	took := make([]time.Duration, 0, installations)
	for range installations {
		e.kubectl("-n", harness.SystemNamespace, "delete", "deployment", deployment, "--cascade=foreground")
		e.kubectl("-n", harness.SystemNamespace, "delete", "leases", "--all")
		e.kubectl("-n", ns, "delete", "tasks", "--all")
		e.createTask(task(ns, "first", "true"))
		started := time.Now()
		e.applyManifests()
		e.waitSigned(ns, "first", afterStart)
		took = append(took, time.Since(started))
	}
	slices.Sort(took)
	t.Logf("from kubectl apply to the first signature: %.1f s (p50 of %d), %.1f to %.1f s", took[installations/2].Seconds(), installations, took[0].Seconds(), took[installations-1].Seconds())
}

// Measures a Pod that has nothing to do.
func TestNumbers_IdlePod(t *testing.T) {
	e := install(t)
	const during = 30 * time.Second
	pod := e.pod(e.leader())
	before := e.usage(pod)
	timer := time.NewTimer(during)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
	after := e.usage(pod)
	t.Logf("the idle leader uses %.1f %% of a core and %.0f MiB of memory", 100*(after.cpu-before.cpu).Seconds()/during.Seconds(), float64(after.memory)/(1<<20))
}
