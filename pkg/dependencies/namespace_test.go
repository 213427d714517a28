// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// in returns the object in another namespace, empty for none.
func in[O resource.Object](namespace string, object O) O {
	object.SetNamespace(namespace)
	return object
}

func bundleSource(repository string) v1.RefSource {
	return v1.RefSource{URI: repository, Digest: map[string]string{"sha256": "c0ffee"}, EntryPoint: "build"}
}

// The source names a namespace. Content of another namespace, or of none, fails, although
// its signature is valid.
func TestCollect_RejectsContentOfAnotherNamespaceThanItsSource(t *testing.T) {
	stored, elsewhere := bundleSource(repositories+namespace), bundleSource("registry.example/elsewhere/"+namespace)
	for name, tc := range map[string]struct {
		source v1.RefSource
		of     string // the namespace of the content
		want   policy.Reason
	}{
		"stored bundle":                       {stored, namespace, ""},
		"stored bundle, another namespace":    {stored, "sandbox", policy.NamespaceMismatch},
		"stored bundle, no namespace":         {stored, "", policy.NamespaceMismatch},
		"bundle of others, another namespace": {elsewhere, "sandbox", ""},
		"bundle of others, no namespace":      {elsewhere, "", ""},
		"git, another namespace":              {gitSource, "sandbox", ""},
		"git, no namespace":                   {gitSource, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTestCluster(t)
			expect := func(got Dependency, content resource.Object) {
				t.Helper()
				if tc.want == "" {
					has(t, got, content, "own")
					return
				}
				lacks(t, got, tc.want, `expected "ns"`)
				if got.Source.URI != tc.source.URI || len(got.Source.Digest) == 0 {
					t.Errorf("got source %v, want that which the run recorded", got.Source)
				}
			}
			tr, build := resolvedRun("bundles", tc.source), in(tc.of, sign(task("build", "make"), "own"))
			w.answered(tr, build)
			expect(w.one(w.ran(tr, build)), build)

			pr, p := resolvedPipelineRun("bundles", tc.source), in(tc.of, sign(pipeline("p"), "own"))
			w.resolve(pr, pipelineRequestName(t.Context(), pr), p, tc.source)
			if err := recordPipelineRun(t.Context(), pr, p); err != nil {
				t.Fatal(err)
			}
			expect(w.CollectPipelineRun(t.Context(), pr, nil)[0], p)
		})
	}
}

// The checksum that the cluster resolver records is that of the content. It does not
// say that the object was in the namespace of the URI.
func TestCollect_RejectsContentOfAnotherNamespaceThanClusterURI(t *testing.T) {
	for of, want := range map[string]policy.Reason{namespace: "", "sandbox": policy.NamespaceMismatch, "": policy.NamespaceMismatch} {
		for _, resolver := range []v1.ResolverName{resolverCluster, "custom"} {
			build := in(of, sign(task("build", "make"), "own"))
			source := v1.RefSource{
				URI:    clusterURI(resource.Task, namespace, "build", build.UID),
				Digest: map[string]string{sha256Digest: digestOf(t, build)},
			}
			w, tr := newTestCluster(t), resolvedRun(resolver, source)
			w.answered(tr, build)
			tr = w.ran(tr, build)
			if want == "" {
				has(t, w.one(tr), build, "own")
			} else {
				lacks(t, w.one(tr), want, `expected "ns"`)
			}
		}
	}
}

func TestCollectTaskRun_RejectsStepActionOfAnotherNamespaceThanItsSource(t *testing.T) {
	step := v1.Step{Name: "a", Ref: &v1.Ref{ResolverRef: resolverRef("bundles", param("name", text("compile")))}}
	for of, want := range map[string]policy.Reason{namespace: "", "sandbox": policy.NamespaceMismatch} {
		build, compile := task("build", "", referring(step)), in(of, sign(stepAction("compile", "cc"), "own"))
		w, tr := newTestCluster(t), localRun()
		w.resolve(tr, stepActionRequestName(t.Context(), tr, build.Spec, &step), compile, bundleSource(repositories+namespace))
		got := w.CollectTaskRun(t.Context(), w.ran(tr, build))
		if len(got) != 2 {
			t.Fatalf("got %d dependencies, want the Task and the StepAction", len(got))
		}
		has(t, got[0], build, "")
		if want == "" {
			has(t, got[1], compile, "own")
		} else {
			lacks(t, got[1], want, `expected "ns"`)
		}
	}
}
