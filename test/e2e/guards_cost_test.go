// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// The gate and the guards cost the API server little for each Pod that Tekton creates.
// The Pods are dry runs.
func TestGuards_KeepPodCreationFast(t *testing.T) {
	e := newEnv(t)
	e.installAdmission()
	guarded, free := e.enforced(), e.namespaceLabelled(nil)
	expectFast(t, e.podCreation("warm up", free, guarded, free, guarded), guarded, free, 20*time.Millisecond)
}

// The same for the selectors of ClusterVerificationPolicies, which the API server evaluates
// for the Pods of TaskRuns in all namespaces.
func TestSelected_KeepsPodCreationFast(t *testing.T) {
	e := newEnv(t)
	free, labelled, selected := e.staged("test"), e.enforced(), e.staged("prod")
	e.podCreation("without config/admission", free)
	e.installAdmission()
	e.podCreation("no lines", free, labelled)
	for _, lines := range []int{1, 200} {
		// The last line selects.
		e.enforceSelected(append(slices.Repeat([]string{"stage In canary,next;example.dev/team NotIn some,other;example.dev/organisation Exists"}, lines-1), "stage In prod")...)
		took := e.podCreation(fmt.Sprintf("%d lines", lines), free, labelled, selected)
		expectFast(t, took, selected, labelled, 40*time.Millisecond)
		expectFast(t, took, free, labelled, 40*time.Millisecond)
	}
}

// podCreation returns the median time that the creation of a Pod takes in each namespace. A
// namespace that is there twice is measured twice, and the second time counts.
func (e *env) podCreation(what string, namespaces ...string) map[string]time.Duration {
	e.t.Helper()
	const count = 100
	tekton := e.as(tektonAccount)
	median := map[string]time.Duration{}
	for _, ns := range namespaces {
		took := make([]time.Duration, 0, count)
		held := false
		for range count {
			started := time.Now()
			pod, err := tekton.Kube.CoreV1().Pods(ns).Create(e.t.Context(), harness.PodOfTaskRun("any-pod"), dryRunCreate)
			e.check(err)
			took = append(took, time.Since(started))
			held = harness.IsHeld(pod)
		}
		slices.Sort(took)
		median[ns] = took[count/2]
		e.t.Logf("%s, of %d dry runs in %s: p50 %v, p99 %v, held: %t", what, count, ns, took[count/2], took[count*99/100], held)
	}
	return median
}

func expectFast(t *testing.T, median map[string]time.Duration, namespace, other string, most time.Duration) {
	t.Helper()
	if more := median[namespace] - median[other]; more > harness.TimeLimit(most) {
		t.Errorf("the median of a Pod's creation in %s is %v longer than in %s, want at most %v", namespace, more, other, most)
	}
}
