// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"bytes"
	"slices"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// Which checksums differ depends on the resource. All together they are those of each
// dialect alone, and the resource stays as it is.
func TestChecksumsOf_AreThoseOfEachDialect(t *testing.T) {
	task := &v1.Task{Spec: v1.TaskSpec{Steps: []v1.Step{{Env: []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{
		FileKeyRef: &corev1.FileKeySelector{Key: "k"}, // not known to older releases
	}}}}}}}
	withTemplate := &v1beta1.Task{Spec: v1beta1.TaskSpec{StepTemplate: &v1beta1.StepTemplate{Image: "alpine"}}} //nolint:staticcheck // Tekton still accepts it
	for name, tc := range map[string]struct {
		object    Object
		different int
	}{
		"Task":                       {task, 2},
		"Pipeline":                   {&v1.Pipeline{}, 2},
		"StepAction":                 {&v1beta1.StepAction{}, 2},
		"Task of v1beta1":            {&v1beta1.Task{}, 2}, //nolint:staticcheck // see above
		"Task of v1beta1, template":  {withTemplate, 3},
		"Pipeline of v1beta1, empty": {&v1beta1.Pipeline{}, 2}, //nolint:staticcheck // see above
	} {
		before := tc.object.DeepCopyObject()
		all := must(ChecksumsOf(t.Context(), tc.object))
		for _, dialect := range tekton.Dialects {
			if one := must(Checksum(t.Context(), tc.object, dialect)); !bytes.Equal(one, all.In(dialect)) {
				t.Errorf("%s, %s: got %x, alone %x", name, dialect, all.In(dialect), one)
			}
			if !slices.Contains(all.With(all.In(dialect)), dialect) || all.Dialects(dialect)[0] != dialect {
				t.Errorf("%s, %s: the dialect of its own checksum is %v", name, dialect, all.With(all.In(dialect)))
			}
		}
		if got := len(all.Dialects(tekton.Newest)); got != tc.different {
			t.Errorf("%s: got %d different checksums, want %d", name, got, tc.different)
		}
		if len(all.With([]byte("another"))) != 0 {
			t.Errorf("%s: another checksum is one of its own", name)
		}
		if !equality.Semantic.DeepEqual(before, tc.object) {
			t.Errorf("%s: the object was changed", name)
		}
	}
}
