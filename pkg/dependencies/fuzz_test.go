// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// bounded returns a function that fails the test if more was allocated meanwhile than
// the bounds allow. It counts garbage, too: an expansion allocates gigabytes.
func bounded(t *testing.T) func() {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	return func() {
		const most = 2 << 30 // maxLookups take about 150 bytes each, in each of three replays
		if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > most {
			t.Fatalf("allocated %d MiB", (after.TotalAlloc-before.TotalAlloc)>>20)
		}
	}
}

// FuzzRequestContent checks that the content of a ResolutionRequest is of the kind that
// the run refers to, or is refused.
func FuzzRequestContent(f *testing.F) {
	for _, object := range []resource.Object{task("build", "make"), pipeline("build", withResolver("a")), stepAction("compile", "cc")} {
		f.Add(must(json.Marshal(object)), true)
	}
	f.Add([]byte("apiVersion: tekton.dev/v1beta1\nkind: Task\nmetadata: {name: x}\nspec: {steps: [{image: y}]}\n"), false)
	f.Add([]byte("apiVersion: tekton.dev/v1alpha1\nkind: StepAction\n"), true)
	f.Add([]byte("{}"), false)
	f.Add([]byte("apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {name: &a "+strings.Repeat("x", 1000)+"}\nspec: {steps: [{args: [*a, *a, *a]}]}\n"), false)
	f.Fuzz(func(t *testing.T, data []byte, byClusterResolver bool) {
		defer bounded(t)()
		w, tr := newTestCluster(t), resolvedRun("git", gitSource)
		request := w.answered(tr, task("build", "make"))
		request.Status.Data = base64.StdEncoding.EncodeToString(data)
		run := w.collection(w.objectsOnce(), tr, tr.UID)
		for _, kind := range resource.Kinds {
			found, err := run.readRequest(t.Context(), request, kind, &gitSource)
			if err != nil {
				continue
			}
			if resource.KindOf(found.object) != kind {
				t.Fatalf("got a %T for a %s", found.object, kind)
			}
			resolver := map[bool]v1.ResolverName{true: resolverCluster, false: "git"}[byClusterResolver]
			got := run.conclude(t.Context(), run.resolvedContent(t.Context(), finding{reference: reference{kind: kind, resolved: true}}, found, resolver))
			if got.Content != nil && (len(got.Content.Checksum) != sha256.Size || len(got.Content.Signatures) == 0 || byClusterResolver) {
				t.Fatalf("got content %+v of resolver %s", got.Content, resolver)
			}
		}
	})
}

// FuzzStepAction checks that no StepAction makes Tekton's functions panic. They run in
// goroutines, where a panic ends the process.
func FuzzStepAction(f *testing.F) {
	plain := stepAction("compile", "cc $(params.p)")
	plain.Spec.Params = v1.ParamSpecs{spec("p", text("x")), spec("list", nil, ofType(v1.ParamTypeArray))}
	plain.Spec.Args = []string{"$(params.list[0])", "$(params.list[*])"}
	f.Add(must(json.Marshal(plain)), "p", "$(steps.a.results.r)", true)
	f.Add(must(json.Marshal(plain)), "list", "$(steps.a.results.r)", false)
	f.Add(must(json.Marshal(plain)), "p", repeated("$(params.p)", 2000), true)
	chained := stepAction("compile", "$(params.p0)")
	chained.Spec.Params = asDefaults(chainOf(4, 1000))
	f.Add(must(json.Marshal(chained)), "p3", repeated("$(params.p4)", 1000), true)
	f.Fuzz(func(t *testing.T, data []byte, name, value string, byName bool) {
		defer bounded(t)()
		w, tr := newTestCluster(t), localRun()
		step := v1.Step{Ref: &v1.Ref{ResolverRef: resolverRef("git")}, Params: v1.Params{param(name, text(value)), param("list", array("a", value))}}
		request := w.resolve(tr, stepActionRequestName(t.Context(), tr, v1.TaskSpec{}, &step), plain, gitSource)
		request.Status.Data = base64.StdEncoding.EncodeToString(data)
		if byName {
			step.Ref = &v1.Ref{Name: "compile"}
			object := stepAction("compile", "")
			if json.Unmarshal(data, object) != nil {
				return
			}
			object.Name, object.Namespace = "compile", namespace
			w.objects.put(object)
		}
		build := task("build", "", referring(v1.Step{Name: "a", Image: "alpine"}, step))
		w.objects.put(build)
		tr.Status.TaskSpec = &task("build", "make").Spec
		for _, item := range w.CollectTaskRun(t.Context(), tr) {
			if item.Content != nil {
				t.Fatalf("content that did not run is established: %+v", item)
			}
		}
	})
}

// FuzzLocal checks that a Task or Pipeline in the cluster is not taken for another one
// that ran, and causes no panic.
func FuzzLocal(f *testing.F) {
	f.Add(must(json.Marshal(task("build", "make $(params.x) $(workspaces.w.path)").Spec)), must(json.Marshal(everySubstitution().Spec)), "value")
	f.Add(must(json.Marshal(task("build", repeated("$(params.x)", 1000)).Spec)), must(json.Marshal(everySubstitution().Spec)), repeated("$(params.x)", 1000))
	f.Add(must(json.Marshal(task("build", "$(params.p0)", declaring(asDefaults(chainOf(4, 1000))...)).Spec)),
		must(json.Marshal(everySubstitution().Spec)), repeated("$(params.word)$(params.list[*])", 1000))
	f.Add(must(json.Marshal(task("build", repeated("$(workspaces.w0.path)", 1000), func(t *v1.Task) { t.Spec.Workspaces = workspaces(4, 1000) }).Spec)),
		must(json.Marshal(everySubstitution().Spec)), "$(params.list[*])")
	f.Fuzz(func(t *testing.T, ofTask, ofPipeline []byte, value string) {
		defer bounded(t)()
		w, another, anotherPipeline := newTestCluster(t), task("build", ""), pipeline("build")
		if json.Unmarshal(ofTask, &another.Spec) != nil || json.Unmarshal(ofPipeline, &anotherPipeline.Spec) != nil {
			return
		}
		ran := task("build", "ran, and nothing else")
		tr := w.ran(localRun(giving(param("x", text(value)))), ran)
		w.objects.put(another, anotherPipeline)
		if got := w.CollectTaskRun(t.Context(), tr)[0]; got.Content != nil && !strings.Contains(string(ofTask), "ran") {
			t.Fatalf("content that did not run is established: %s", ofTask)
		}
		pr := pipelineRun(func(pr *v1.PipelineRun) {
			pr.Spec.PipelineRef = &v1.PipelineRef{Name: "build"}
			pr.Spec.Params = v1.Params{param("word", text(value)), param("list", array(value))}
			pr.Status.PipelineSpec = &pipeline("build", withResolver("ran-and-nothing-else")).Spec
		})
		if got := w.CollectPipelineRun(t.Context(), pr, nil)[0]; got.Content != nil && !strings.Contains(string(ofPipeline), "ran") {
			t.Fatalf("content that did not run is established: %s", ofPipeline)
		}
	})
}

func FuzzClusterURI(f *testing.F) {
	f.Add("/apis/tekton.dev/v1/namespaces/ns/task/build@uid", "ns", "build", "uid")
	f.Add("/apis/tekton.dev/v1/namespaces//task/@", "", "", "")
	f.Fuzz(func(t *testing.T, uri, namespace, name, uid string) {
		if ns, n, ok := parseClusterURI(uri); ok {
			again := clusterURI(resource.Task, ns, n, "")
			if ns2, n2, ok := parseClusterURI(again); !ok || ns2 != ns || n2 != n {
				t.Fatalf("%q is %q %q, and %q is %q %q", uri, ns, n, again, ns2, n2)
			}
		}
		if namespace == "" || name == "" || strings.ContainsAny(namespace+name+uid, "/@") {
			return
		}
		for _, kind := range resource.Kinds {
			made := clusterURI(kind, namespace, name, types.UID(uid))
			if ns, n, ok := parseClusterURI(made); !ok || ns != namespace || n != name {
				t.Fatalf("%q is %q %q", made, ns, n)
			}
		}
	})
}
