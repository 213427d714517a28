// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// While the gate holds Pods, and nobody decides about them, Tekton ends runs as it ends
// those whose Pods run. No Pod starts.
func TestGate_LetsTektonEndHeldRuns(t *testing.T) {
	e := newEnv(t) // no controller
	e.installAdmission()
	g := &gated{newMatrix(e)}
	enforced, free := g.places()
	started := e.recordStarted(enforced.ns)
	short := &metav1.Duration{Duration: harness.TimeLimit(3 * time.Second)}
	for _, tc := range []struct {
		name, want string
		happens    func(p place) string
	}{
		{"timeout of a TaskRun", "False TaskRunTimeout", func(p place) string {
			p.run("plain", lasting, func(run *v1.TaskRun) { run.Spec.Timeout = short })
			defer p.expectNoPod("plain-pod")
			return p.ended("plain")
		}},
		{"timeout of a PipelineRun", "False PipelineRunTimeout, only: False TaskRunCancelled", func(p place) string {
			p.runPipeline("one", lastingPipeline, func(run *v1.PipelineRun) { run.Spec.Timeouts = &v1.TimeoutFields{Pipeline: short} })
			defer p.expectNoPod("one-only-pod")
			return p.pipelineEnded("one")
		}},
		{"cancellation", "False TaskRunCancelled", func(p place) string {
			p.run("sidecar", lasting)
			p.podOf(p.ns, "sidecar")
			p.cancel("sidecar")
			defer p.expectNoPod("sidecar-pod")
			return p.ended("sidecar")
		}},
		{"quota", "Unknown ExceededResourceQuota", func(p place) string {
			p.limitPods(1)
			p.createTaskRun(p.ns, "one-allowed", p.task("plain"), lasting)
			p.podOf(p.ns, "one-allowed")
			p.createTaskRun(p.ns, "too-many", p.task("plain"), lasting)
			waited := p.waitTooMany()
			p.limitPods(10)
			p.touchTooMany()
			p.podOf(p.ns, "too-many")
			return waited
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for what, p := range map[string]place{"without the gate": free, "with the gate": enforced} {
				p.gated = &gated{&matrix{env: e.sub(t), signer: g.signer}}
				if got := tc.happens(p); got != tc.want {
					t.Errorf("%s: got %s, want %s", what, got, tc.want)
				}
			}
		})
	}
	if names := started.names(); len(names) > 0 {
		t.Errorf("the held Pods %q started", names)
	}
}

// With keep-pod-on-cancel Tekton does not delete the Pod of a cancelled TaskRun, but
// tells its steps to end. A held Pod stays held.
func TestGate_KeepsHeldPodOnCancel(t *testing.T) {
	e := newEnv(t)
	e.keepPodOnCancel()
	e.installAdmission()
	g := &gated{newMatrix(e)}
	enforced, free := g.places()
	started := e.recordStarted(enforced.ns)
	for _, p := range []place{free, enforced} {
		p.run("plain", lasting)
		p.podOf(p.ns, "plain")
		p.cancel("plain")
		if got := p.ended("plain"); got != "False TaskRunCancelled" {
			t.Errorf("in %s: %s", p.ns, got)
		}
		pod := p.podOf(p.ns, "plain")
		if pod.DeletionTimestamp != nil || pod.Annotations["tekton.dev/cancel"] != "CANCEL" || harness.IsHeld(pod) != (p.ns == enforced.ns) {
			t.Errorf("Pod %s: deleted %v, annotations %v, gates %v", pod.Name, pod.DeletionTimestamp, pod.Annotations, pod.Spec.SchedulingGates)
		}
	}
	if names := started.names(); len(names) > 0 {
		t.Errorf("the held Pods %q started", names)
	}
}

// keepPodOnCancel sets the feature flag of Tekton until the test ends.
func (e *env) keepPodOnCancel() {
	e.t.Helper()
	set := func(ctx context.Context, value string) error {
		patch := fmt.Sprintf(`{"data":{"keep-pod-on-cancel":%q}}`, value)
		_, err := cluster.Kube.CoreV1().ConfigMaps("tekton-pipelines").Patch(ctx, "feature-flags", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return err
	}
	e.cleanup(func() error { return set(cleanupContext(), "false") }) // as Tekton ships it
	e.check(set(e.t.Context(), "true"))
}

func lastingPipeline(run *v1.PipelineRun) {
	run.Annotations["kubelet.localcluster/duration"] = harness.TimeLimit(15 * time.Second).String()
}

func (p place) cancel(run string) {
	p.t.Helper()
	_, err := cluster.Tekton.TektonV1().TaskRuns(p.ns).Patch(p.t.Context(), run, types.MergePatchType,
		[]byte(`{"spec":{"status":"TaskRunCancelled"}}`), metav1.PatchOptions{})
	p.check(err)
}

// touchTooMany makes Tekton look at the TaskRun at once. Otherwise that takes up to a
// minute.
func (p place) touchTooMany() {
	p.t.Helper()
	_, err := cluster.Tekton.TektonV1().TaskRuns(p.ns).Patch(p.t.Context(), "too-many", types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"example.dev/touched":"yes"}}}`), metav1.PatchOptions{})
	p.check(err)
}

// waitTooMany waits until Tekton says that there is no quota for the TaskRun.
func (p place) waitTooMany() (got string) {
	p.t.Helper()
	p.eventually(soon, func() error {
		found, err := cluster.Tekton.TektonV1().TaskRuns(p.ns).Get(p.t.Context(), "too-many", metav1.GetOptions{})
		if err != nil {
			return err
		}
		condition := found.Status.GetCondition(apis.ConditionSucceeded)
		if got = outcome(condition); condition == nil || condition.Reason != "ExceededResourceQuota" {
			return fmt.Errorf("TaskRun too-many: %+v", condition)
		}
		return nil
	})
	return got
}

func (p place) expectNoPod(name string) {
	p.t.Helper()
	p.eventually(soon, func() error {
		pod, err := cluster.Kube.CoreV1().Pods(p.ns).Get(p.t.Context(), name, metav1.GetOptions{})
		if err == nil {
			err = fmt.Errorf("Pod %s still exists: %+v", name, pod.Status)
		}
		return ignoreNotFound(err)
	})
}

// limitPods sets the number of Pods that may exist in the namespace, from now on. The
// cluster has no controller that counts them.
func (p place) limitPods(count int64) {
	p.t.Helper()
	quotas := cluster.Kube.CoreV1().ResourceQuotas(p.ns)
	hard := corev1.ResourceList{corev1.ResourcePods: *apiresource.NewQuantity(count, apiresource.DecimalSI)}
	_, err := quotas.Create(p.t.Context(), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pods-%d", count)}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}, metav1.CreateOptions{})
	p.check(err)
	p.check(quotas.DeleteCollection(p.t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: fmt.Sprintf("metadata.name!=pods-%d", count)}))
	quota, err := quotas.Get(p.t.Context(), fmt.Sprintf("pods-%d", count), metav1.GetOptions{})
	p.check(err)
	quota.Status = corev1.ResourceQuotaStatus{Hard: hard, Used: corev1.ResourceList{corev1.ResourcePods: apiresource.MustParse("0")}}
	_, err = quotas.UpdateStatus(p.t.Context(), quota, metav1.UpdateOptions{})
	p.check(err)
}
