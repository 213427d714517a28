// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// The content is what the signature covers, apart from the annotations about the
// requester.
func TestSameContent(t *testing.T) {
	before := func() *v1.Task {
		return &v1.Task{
			ObjectMeta: metav1.ObjectMeta{Name: "t", Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"}},
			Spec:       v1.TaskSpec{Params: v1.ParamSpecs{{Name: "p"}}, Steps: []v1.Step{{Script: "echo"}}},
		}
	}
	annotate := func(key string) func(*v1.Task) { return func(task *v1.Task) { task.Annotations[key] = "x" } }
	for name, tc := range map[string]struct {
		change func(*v1.Task)
		same   bool
	}{
		"nothing":          {func(*v1.Task) {}, true},
		"requester":        {annotate(v1alpha1.RequestedByAnnotation), true},
		"not authorized":   {annotate(v1alpha1.NotAuthorizedAnnotation), true},
		"signature":        {annotate(trustedresources.SignatureAnnotation), true},
		"applied manifest": {annotate(corev1.LastAppliedConfigAnnotation), true},
		"finalizer":        {func(task *v1.Task) { task.Finalizers = []string{"f"} }, true},
		"default":          {func(task *v1.Task) { task.Spec.Params[0].Type = v1.ParamTypeString }, true},
		"annotation":       {annotate("example.com/x"), false},
		"annotation gone":  {func(task *v1.Task) { task.Annotations = nil }, false},
		"label":            {func(task *v1.Task) { task.Labels["a"] = "x" }, false},
		"script":           {func(task *v1.Task) { task.Spec.Steps[0].Script = "x" }, false},
		"generateName":     {func(task *v1.Task) { task.GenerateName = "x-" }, false},
	} {
		after := before()
		tc.change(after)
		unchanged := after.DeepCopy()
		if same := must(SameContent(t.Context(), before(), after)); same != tc.same {
			t.Errorf("%s: same content %v, want %v", name, same, tc.same)
		}
		if len(after.Annotations) != len(unchanged.Annotations) {
			t.Errorf("%s: SameContent has changed the object", name)
		}
	}
}

// Everybody who may change a resource can make the names as long as etcd allows.
func TestSummarize_BoundsNamesOfUsers(t *testing.T) {
	task := &v1.Task{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
		v1alpha1.RequestedByAnnotation: "alice", v1alpha1.NotAuthorizedAnnotation: strings.Repeat("漢", 1000),
	}}}
	s := must(Summarize(t.Context(), task))
	if s.RequestedBy != "alice" || len(s.NotAuthorized) > maxUser+3 || !strings.HasPrefix(s.NotAuthorized, "漢") {
		t.Errorf("got %q and %d bytes", s.RequestedBy, len(s.NotAuthorized))
	}
}
