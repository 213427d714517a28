// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"slices"
	"testing"
	"time"

	"github.com/tektoncd/chains/pkg/chains/annotations"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned/fake"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// All runs are listed once, and again when those that were open are not any more.
func TestOpenRuns_ListsAgainWhenAllAreClosed(t *testing.T) {
	activation := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	began := metav1.ObjectMeta{Namespace: "ns", CreationTimestamp: metav1.Time{Time: activation.Add(-time.Hour)}}
	pipelineRun, taskRun := &v1.PipelineRun{ObjectMeta: began}, &v1.TaskRun{ObjectMeta: began}
	pipelineRun.Name, taskRun.Name = "pipeline", "task"
	client := fake.NewSimpleClientset(pipelineRun, taskRun)
	c := &Controller{Inputs: Inputs{Tekton: client, Attests: func(string) bool { return true }}, open: map[string]*listedRuns{}}
	expect := func(requests []string, want ...string) {
		t.Helper()
		client.ClearActions()
		open, err := c.openRuns(t.Context(), "default", activation)
		if err != nil {
			t.Fatal(err)
		}
		names := make([]string, 0, len(open))
		for _, r := range open {
			names = append(names, r.name)
		}
		got := make([]string, 0, len(client.Actions()))
		for _, action := range client.Actions() {
			got = append(got, action.GetVerb()+" "+action.GetResource().Resource)
		}
		if !slices.Equal(names, want) || !slices.Equal(got, requests) {
			t.Errorf("got %q after %q, want %q after %q", names, got, want, requests)
		}
	}
	listed := []string{"list pipelineruns", "list taskruns"}
	expect(listed, "pipeline", "task")
	expect([]string{"get pipelineruns"}, "pipeline", "task")
	pipelineRun.Status.SetCondition(&apis.Condition{Type: apis.ConditionSucceeded, Status: corev1.ConditionTrue})
	update := func() {
		t.Helper()
		if _, err := client.TektonV1().PipelineRuns("ns").Update(t.Context(), pipelineRun, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	update()
	expect([]string{"get pipelineruns"}, "pipeline", "task") // not attested
	pipelineRun.Annotations = map[string]string{annotations.ChainsAnnotation: "true"}
	update()
	expect([]string{"get pipelineruns", "get taskruns"}, "task")
	if err := client.TektonV1().TaskRuns("ns").Delete(t.Context(), "task", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expect(append([]string{"get taskruns"}, listed...))
	expect(listed)
}

func TestIsOpen(t *testing.T) {
	activation := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	finalizer, attested := []string{"chains.tekton.dev/taskrun"}, map[string]string{annotations.ChainsAnnotation: "true"}
	for name, tc := range map[string]struct {
		created     time.Time
		done        bool
		finalizers  []string
		annotations map[string]string
		namespace   string
		want        bool
	}{
		"began later":                  {activation.Add(2 * time.Second), false, finalizer, nil, "ours", false},
		"began in the same second":     {activation.Add(time.Second), false, finalizer, nil, "ours", true},
		"runs":                         {activation.Add(-time.Hour), false, nil, nil, "ours", true},
		"done, attested":               {activation.Add(-time.Hour), true, finalizer, attested, "ours", false},
		"done, not attested":           {activation.Add(-time.Hour), true, finalizer, nil, "ours", true},
		"done, not seen yet":           {activation.Add(-time.Hour), true, nil, nil, "ours", true},
		"runs, marked by somebody":     {activation.Add(-time.Hour), false, finalizer, attested, "ours", true},
		"done, another attests":        {activation.Add(-time.Hour), true, finalizer, nil, "theirs", true},
		"done, another may not attest": {activation.Add(-time.Hour), true, nil, nil, "theirs", false},
		"canary":                       {activation.Add(-time.Hour), true, nil, nil, v1alpha1.CanaryNamespace, false},
	} {
		t.Run(name, func(t *testing.T) {
			tr := &v1.TaskRun{ObjectMeta: metav1.ObjectMeta{Namespace: tc.namespace, CreationTimestamp: metav1.Time{Time: tc.created}, Finalizers: tc.finalizers, Annotations: tc.annotations}}
			if tc.done {
				tr.Status.SetCondition(&apis.Condition{Type: apis.ConditionSucceeded, Status: corev1.ConditionTrue})
			}
			c := &Controller{Inputs: Inputs{Attests: func(namespace string) bool { return namespace != "theirs" }}}
			if got := c.isOpen(tr, activation); got != tc.want {
				t.Errorf("got %t, want %t", got, tc.want)
			}
		})
	}
}
