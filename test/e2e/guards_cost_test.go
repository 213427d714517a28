// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// The gate and the guards cost the API server little for each Pod that Tekton creates.
// The Pods are dry runs.
func TestGuards_KeepPodCreationFast(t *testing.T) {
	const count = 200
	e := newEnv(t)
	e.installAdmission()
	guarded, free := e.enforced(), e.namespaceLabelled(nil)
	tekton := e.as(tektonAccount)
	median := map[string]time.Duration{}
	for _, ns := range []string{free, guarded, free, guarded} { // the first round warms up
		took := make([]time.Duration, 0, count)
		for range count {
			started := time.Now()
			_, err := tekton.Kube.CoreV1().Pods(ns).Create(t.Context(), harness.PodOfTaskRun("any-pod"), dryRunCreate)
			e.check(err)
			took = append(took, time.Since(started))
		}
		slices.Sort(took)
		median[ns] = took[count/2]
		t.Logf("of %d dry runs: p50 %v, p99 %v, enforced: %t", count, took[count/2], took[count*99/100], ns == guarded)
	}
	if more := median[guarded] - median[free]; more > harness.TimeLimit(20*time.Millisecond) {
		t.Errorf("the median of a Pod's creation is %v longer in an enforced namespace, want at most 20 ms", more)
	}
}
