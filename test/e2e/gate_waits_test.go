// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	tektonv1alpha1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// A KMS that does not answer holds a run. The run is decided as soon as the policy has
// another key.
func TestGate_WaitsForKMS(t *testing.T) {
	e := startControllerForAWS(t)
	kms := e.startSilentKMS()
	e.configure(with(withProvenance, map[string]string{"trustedresources.policies.kms": kms.prefix()}))
	g := newGated(e)
	ns, other := g.namespaceLabelled(map[string]string{v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce}), g.enforced()
	g.signedTask(ns, "build")
	g.signedTask(other, "build")
	g.createKMSPolicy(ns, ".*", kms.reference())
	started := g.recordStarted(ns)
	const runs = 10
	for i := range runs {
		g.createTaskRun(ns, fmt.Sprintf("run-%d", i), &v1.TaskRef{Name: "build"})
	}
	for i := range runs {
		g.waitEvent(g.getTaskRun(ns, fmt.Sprintf("run-%d", i)), v1alpha1.ReasonRunHeld, "KeyUnavailable", "policy kms")
	}
	begun := time.Now()
	g.createTaskRun(other, "run", &v1.TaskRef{Name: "build"}) // in a namespace whose key can be read
	g.expectSuccess(g.waitDone(other, "run"))
	t.Logf("a run of another namespace ended after %s", time.Since(begun))
	if got := started.names(); len(got) != 0 {
		t.Errorf("the Pods %q started without a verdict", got)
	}
	g.createPolicies(ns, trusted) // first: without any policy, the runs would be refused
	g.check(cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Delete(t.Context(), "kms", metav1.DeleteOptions{}))
	for i := range runs {
		g.expectSuccess(g.waitDone(ns, fmt.Sprintf("run-%d", i)))
	}
}

func (g *gated) createKMSPolicy(namespace, pattern, reference string) {
	g.t.Helper()
	_, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(namespace).Create(g.t.Context(), &tektonv1alpha1.VerificationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "kms"},
		Spec: tektonv1alpha1.VerificationPolicySpec{
			Resources:   []tektonv1alpha1.ResourcePattern{{Pattern: pattern}},
			Authorities: []tektonv1alpha1.Authority{{Name: "kms", Key: &tektonv1alpha1.KeyRef{KMS: reference}}},
			Mode:        tektonv1alpha1.ModeEnforce,
		},
	}, metav1.CreateOptions{})
	g.check(err)
}

func (e *env) getTaskRun(namespace, name string) *v1.TaskRun {
	e.t.Helper()
	run, err := cluster.Tekton.TektonV1().TaskRuns(namespace).Get(e.t.Context(), name, metav1.GetOptions{})
	e.check(err)
	return run
}

// A registry that may have the signature, and does not answer, holds a run until it
// answers.
func TestGate_WaitsForRegistry(t *testing.T) {
	g := startGated(t)
	ns := g.enforced()
	registry, err := harness.StartRegistry(t.Context())
	g.check(err)
	g.cleanup(registry.Stop)
	g.configure(with(withProvenance, map[string]string{
		"trustedresources.oci.repository": registry.Host() + "/tekton", "storage.oci.insecure": "true",
	}))
	g.check(registry.Stop())
	g.createTask(newTask(ns, "unsigned"))
	g.createTaskRun(ns, "run", &v1.TaskRef{Name: "unsigned"})
	g.waitEvent(g.getTaskRun(ns, "run"), v1alpha1.ReasonRunHeld, "SignatureUnavailable")
	g.check(registry.Start(t.Context()))
	g.expectHeldBack(g.waitDone(ns, "run"), "Unsigned") // the registry has no signature either
}

// While a run is held, its time runs, and it can be cancelled. It never starts.
func TestGate_EndsHeldRuns(t *testing.T) {
	g := startGated(t)
	ns := g.enforced()
	g.check(g.controller.Stop(t.Context())) // nobody decides
	started := g.recordStarted(ns)
	g.signedTask(ns, "build")
	g.createTaskRun(ns, "cancelled", &v1.TaskRef{Name: "build"})
	g.createTaskRun(ns, "late", &v1.TaskRef{Name: "build"}, func(run *v1.TaskRun) { run.Spec.Timeout = &metav1.Duration{Duration: 5 * time.Second} })
	g.heldPod(ns, "cancelled")
	g.heldPod(ns, "late")
	_, err := cluster.Tekton.TektonV1().TaskRuns(ns).Patch(t.Context(), "cancelled", types.MergePatchType,
		[]byte(`{"spec":{"status":"TaskRunCancelled"}}`), metav1.PatchOptions{})
	g.check(err)
	for name, reason := range map[string]string{"cancelled": "TaskRunCancelled", "late": "TaskRunTimeout"} {
		if c := g.waitDone(ns, name).Status.GetCondition(apis.ConditionSucceeded); c.Reason != reason {
			t.Errorf("%s: got reason %s, want %s", name, c.Reason, reason)
		}
	}
	g.check(g.controller.Start(t.Context()))
	g.createTaskRun(ns, "probe", &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, "build")})
	g.expectSuccess(g.waitDone(ns, "probe"))
	if got := started.names(); len(got) != 1 || got[0] != "probe-pod" {
		t.Errorf("the Pods %q started, want probe-pod only", got)
	}
}
