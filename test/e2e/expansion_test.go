// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// maxHostile is how much memory a controller takes at most for the runs of this file. It
// is half of what the Deployment allows.
const maxHostile = 512 << 20

// Anybody who may create runs may choose parameters that refer to themselves or to each
// other. Each substitution multiplies them. Tekton substitutes once; a replay that does
// not stop in time takes gigabytes, and again after each restart of the controller.
func TestAttestation_SurvivesParametersThatExpand(t *testing.T) {
	m := startWithStatus(t)
	ns := m.namespaceLabelled(nil)
	m.createPolicies(ns, trusted)
	for _, name := range []string{"remote", "patched"} {
		action := &v1beta1.StepAction{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: v1beta1.StepActionSpec{Image: "alpine", Script: "echo"},
		}
		m.check(m.signer.Sign(t.Context(), action))
		_, err := cluster.Tekton.TektonV1beta1().StepActions(ns).Create(t.Context(), action, metav1.CreateOptions{})
		m.check(err)
	}
	before := m.partOf(m.controller).PID
	given := map[string]v1.Params{
		"itself": {textParam("a", strings.Repeat("$(params.a)", 5000))},
		"chain": {
			textParam("a", strings.Repeat("$(params.b)", 1000)), textParam("b", strings.Repeat("$(params.c)", 1000)),
			textParam("c", strings.Repeat("$(params.a)", 1000)),
		},
	}
	for name, params := range given {
		m.createTaskRun(ns, name, nil, func(run *v1.TaskRun) {
			run.Spec.ServiceAccountName = "nope"
			run.Spec.Params = params
			run.Spec.TaskSpec = &v1.TaskSpec{Steps: []v1.Step{
				{Name: "remote", Ref: &v1.Ref{ResolverRef: harness.ClusterRef(resource.StepAction, ns, "remote")}},
				{Name: "patched", Ref: &v1.Ref{Name: "patched"}},
				{Name: "script", Image: "alpine", Script: "$(params.a)"},
			}}
		})
	}
	for i := range 20 { // while Tekton reads the StepAction
		_, err := cluster.Tekton.TektonV1beta1().StepActions(ns).Patch(t.Context(), "patched", types.MergePatchType,
			fmt.Appendf(nil, `{"spec":{"script":"echo %d"}}`, i), metav1.PatchOptions{})
		m.check(err)
	}
	for name := range given {
		verifications, summary := m.verificationStatus(m.waitAttestation(ns, name, false, soon))
		want := "StepAction patched SKIPPED ContentUnavailable\nStepAction remote SKIPPED ContentUnavailable\nTask " + name + " SKIPPED Inline"
		if got := describe(slices.Concat(verifications, summary.Others)); got != want {
			t.Errorf("verifications in the attestation of %s: got\n%s\nwant\n%s", name, got, want)
		}
		m.expectDeletable(ns, name)
	}
	peak, err := m.controller.PeakMemory(t.Context())
	m.check(err)
	t.Logf("the controller took at most %d MiB", peak>>20)
	if peak > maxHostile && !cluster.Race {
		t.Errorf("the controller took %d MiB, want at most %d MiB", peak>>20, maxHostile>>20)
	}
	if after := m.partOf(m.controller).PID; after != before {
		t.Errorf("the controller was restarted: it was process %d and is process %d", before, after)
	}
}

// Patterns of a policy are regular expressions. A few kB of them compile into hundreds
// of MB, in each namespace.
func TestAttestation_SurvivesPatternsThatExpand(t *testing.T) {
	m := startWithStatus(t)
	ns := m.namespaceLabelled(nil)
	for i := range 12 { // Tekton's webhook compiles the patterns of one policy within its time limit
		hostile := &v1alpha1.VerificationPolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("hostile-%d", i)}}
		for range 20 {
			hostile.Spec.Resources = append(hostile.Spec.Resources, v1alpha1.ResourcePattern{Pattern: strings.Repeat("a{1000}", 80)})
		}
		hostile.Spec.Authorities = []v1alpha1.Authority{{Name: "none", Key: &v1alpha1.KeyRef{KMS: "hashivault://absent"}}}
		_, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Create(t.Context(), hostile, metav1.CreateOptions{})
		m.check(err)
	}
	m.createPolicies(ns, trusted)
	built := newTask(ns, "built", buildsImage)
	m.check(m.signer.Sign(t.Context(), built))
	m.createTask(built)
	m.createTaskRun(ns, "run", &v1.TaskRef{Name: "built"})
	m.expectVerifications(m.waitAttestation(ns, "run", false, soon), "Task built FAILED PolicyInvalid")
	peak, err := m.controller.PeakMemory(t.Context())
	m.check(err)
	t.Logf("the controller took at most %d MiB", peak>>20)
	if peak > maxHostile && !cluster.Race {
		t.Errorf("the controller took %d MiB, want at most %d MiB", peak>>20, maxHostile>>20)
	}
}

func textParam(name, value string) v1.Param {
	return v1.Param{Name: name, Value: *v1.NewStructuredValues(value)}
}

func (e *env) partOf(controller *harness.Controller) harness.Part {
	e.t.Helper()
	part, err := cluster.Part(e.t.Context(), controller.Name)
	e.check(err)
	return part
}

// expectDeletable deletes a TaskRun. The finalizer of Chains must not keep it.
func (e *env) expectDeletable(namespace, name string) {
	e.t.Helper()
	runs := cluster.Tekton.TektonV1().TaskRuns(namespace)
	e.check(runs.Delete(e.t.Context(), name, metav1.DeleteOptions{}))
	e.eventually(soon, func() error {
		_, err := runs.Get(e.t.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(fmt.Errorf("TaskRun %s/%s is not deleted yet", namespace, name), err)
	})
}
