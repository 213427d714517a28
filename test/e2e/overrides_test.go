// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"slices"
	"testing"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/pod"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// A TaskRun and a PipelineRun change how signed resources run. Their attestations list
// the fields, and no value.
func TestAttestation_ListsOverridesOfTheRun(t *testing.T) {
	m := startWithStatus(t)
	ns := m.namespaceLabelled(nil)
	m.createPolicies(ns, trusted)
	built := newTask(ns, "built", buildsImage, func(t *v1.Task) {
		t.Spec.Params = v1.ParamSpecs{{Name: "greeting", Type: v1.ParamTypeString, Default: v1.NewStructuredValues("hello")}}
	})
	m.check(m.signer.Sign(t.Context(), built))
	m.createTask(built)
	pipeline := newPipeline(ns, "p", v1.PipelineTask{Name: "build", TaskRef: &v1.TaskRef{Name: "built"}})
	m.check(m.signer.Sign(t.Context(), pipeline))
	m.createObject(pipeline)
	bash := &pod.PodTemplate{Env: []corev1.EnvVar{{Name: "BASH_ENV", Value: "/workspace/s3cr3t"}}}

	m.createTaskRun(ns, "plain", &v1.TaskRef{Name: "built"})
	m.createTaskRun(ns, "overriding", &v1.TaskRef{Name: "built"}, func(run *v1.TaskRun) {
		run.Spec.PodTemplate = bash
		run.Spec.Params = v1.Params{{Name: "greeting", Value: *v1.NewStructuredValues("s3cr3t")}}
	})
	_, err := cluster.Tekton.TektonV1().PipelineRuns(ns).Create(t.Context(), &v1.PipelineRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "pipeline", Annotations: harness.BuildsImage()},
		Spec: v1.PipelineRunSpec{
			PipelineRef:  &v1.PipelineRef{Name: "p"},
			TaskRunSpecs: []v1.PipelineTaskRunSpec{{PipelineTaskName: "build", PodTemplate: bash}},
		},
	}, metav1.CreateOptions{})
	m.check(err)
	for _, tc := range []struct {
		run      string
		pipeline bool
		want     []string
	}{
		{"plain", false, nil},
		{"overriding", false, []string{"params", "podTemplate.env"}},
		{"pipeline", true, []string{"taskRunSpecs[].podTemplate.env"}},
		{"pipeline-build", false, []string{"podTemplate.env"}},
	} {
		_, summary := m.verificationStatus(m.waitAttestation(ns, tc.run, tc.pipeline, runEnds))
		if summary.Result != "PASSED" || !slices.Equal(summary.Overrides, tc.want) {
			t.Errorf("%s: the summary is %+v, want PASSED with the overrides %q", tc.run, summary, tc.want)
		}
	}
}
