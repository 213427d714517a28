// SPDX-License-Identifier: Apache-2.0

package gating

import (
	"context"
	"slices"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"
	"knative.dev/pkg/reconciler"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// emitted are the facts that were emitted.
type emitted []observe.Fact

func (e *emitted) Emit(_ context.Context, f observe.Fact) { *e = append(*e, f) }

// judged returns a TaskRun with Tekton's condition, which is not set if verified is empty.
func judged(namespace string, uid types.UID, succeeded apis.Condition, verified corev1.ConditionStatus) *v1.TaskRun {
	tr := &v1.TaskRun{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "run", UID: uid}}
	succeeded.Type = apis.ConditionSucceeded
	tr.Status.SetCondition(&succeeded)
	if verified != "" {
		tr.Status.SetCondition(&apis.Condition{Type: trustedresources.ConditionTrustedResourcesVerified, Status: verified})
	}
	return tr
}

var (
	running   = apis.Condition{Status: corev1.ConditionUnknown}
	succeeded = apis.Condition{Status: corev1.ConditionTrue}
	failed    = apis.Condition{Status: corev1.ConditionFalse, Reason: v1.TaskRunReasonFailed.String()}
	refused   = apis.Condition{Status: corev1.ConditionFalse, Reason: v1.TaskRunReasonResourceVerificationFailed.String()}
)

// Each run is counted once, when it ends, with the verdict that it has then.
func TestVerdicts_CountEachRunOnce(t *testing.T) {
	const ns, yes, no = "ns", corev1.ConditionTrue, corev1.ConditionFalse
	for name, tc := range map[string]struct {
		states []any // the first is added, the others are updates
		want   []observe.TektonVerdict
	}{
		"passed":                                {[]any{judged(ns, "1", running, ""), judged(ns, "1", running, yes), judged(ns, "1", succeeded, yes)}, []observe.TektonVerdict{observe.TektonPassed}},
		"passed, and failed":                    {[]any{judged(ns, "1", running, yes), judged(ns, "1", failed, yes)}, []observe.TektonVerdict{observe.TektonPassed}},
		"warned":                                {[]any{judged(ns, "1", running, no), judged(ns, "1", succeeded, no)}, []observe.TektonVerdict{observe.TektonWarned}},
		"warned, and failed":                    {[]any{judged(ns, "1", running, no), judged(ns, "1", failed, no)}, []observe.TektonVerdict{observe.TektonWarned}},
		"refused":                               {[]any{judged(ns, "1", running, ""), judged(ns, "1", refused, no)}, []observe.TektonVerdict{observe.TektonRefused}},
		"refused after another resource passed": {[]any{judged(ns, "1", running, yes), judged(ns, "1", refused, no)}, []observe.TektonVerdict{observe.TektonRefused}},
		"seen when it had ended":                {[]any{judged(ns, "1", succeeded, yes)}, []observe.TektonVerdict{observe.TektonPassed}},
		"written again":                         {[]any{judged(ns, "1", succeeded, yes), judged(ns, "1", succeeded, yes)}, []observe.TektonVerdict{observe.TektonPassed}},
		"another run with the name":             {[]any{judged(ns, "1", succeeded, yes), judged(ns, "2", refused, no)}, []observe.TektonVerdict{observe.TektonPassed, observe.TektonRefused}},
		"still runs":                            {[]any{judged(ns, "1", running, ""), judged(ns, "1", running, yes)}, nil},
		"no policy matches":                     {[]any{judged(ns, "1", running, ""), judged(ns, "1", succeeded, "")}, nil},
		"not in scope":                          {[]any{judged("other", "1", refused, no)}, nil},
		"a try of a key":                        {[]any{judged(v1alpha1.CanaryNamespace, "1", refused, no)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var facts emitted
			c := &Controller{Inputs: Inputs{Emitter: &facts, Scope: []string{ns, v1alpha1.CanaryNamespace}}}
			if err := c.Promote(reconciler.UniversalBucket(), nil); err != nil {
				t.Fatal(err)
			}
			handler := c.onVerdict(t.Context())
			handler.OnAdd(tc.states[0], false)
			for i, state := range tc.states[1:] {
				handler.OnUpdate(tc.states[i], state)
			}
			var got []observe.TektonVerdict
			for _, fact := range facts {
				if f, ok := fact.(observe.TektonJudged); ok && f.Kind == "TaskRun" {
					got = append(got, f.Verdict)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// A run that had ended before the process began, or that another replica looks after, is not
// counted again.
func TestVerdicts_AreNotCountedTwice(t *testing.T) {
	var facts emitted
	c := &Controller{Inputs: Inputs{Emitter: &facts}}
	handler := c.onVerdict(t.Context())
	run := judged("ns", "1", refused, corev1.ConditionFalse)
	handler.OnAdd(run, false) // of another replica
	if err := c.Promote(reconciler.UniversalBucket(), nil); err != nil {
		t.Fatal(err)
	}
	handler.OnAdd(run, true)
	if len(facts) != 0 {
		t.Errorf("got %v, want nothing", facts)
	}
}

func TestVerdictOn_PipelineRun(t *testing.T) {
	pr := &v1.PipelineRun{}
	pr.Status.SetCondition(&apis.Condition{Type: trustedresources.ConditionTrustedResourcesVerified, Status: corev1.ConditionFalse})
	pr.Status.MarkFailed(v1.PipelineRunReasonResourceVerificationFailed.String(), "no")
	if got, found := verdictOn(pr); got != observe.TektonRefused || !found {
		t.Errorf("got %q, %v", got, found)
	}
}
