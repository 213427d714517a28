// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	pipelinev1beta1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/apis/resolution/v1beta1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// one returns the only dependency of a TaskRun.
func (w *testCluster) one(tr *v1.TaskRun) Dependency {
	w.t.Helper()
	items := w.CollectTaskRun(w.t.Context(), tr)
	if len(items) != 1 {
		w.t.Fatalf("got %d dependencies, want one: %+v", len(items), items)
	}
	return items[0]
}

// has checks that the content is that of the object, and the candidates.
func has(t *testing.T, got Dependency, of resource.Object, signatures ...string) {
	t.Helper()
	if got.Content == nil {
		t.Fatalf("%s %s has no content: %s: %s", got.Kind, got.Name, got.Unavailable.Reason, got.Unavailable.Message)
	}
	if want := must(resource.Checksum(t.Context(), of, tekton.Newest)); string(got.Content.Checksum) != string(want) {
		t.Errorf("got checksum %x, want %x", got.Content.Checksum, want)
	}
	if !equality.Semantic.DeepEqual(got.Content.Signatures, signatures) {
		t.Errorf("got candidates %q, want %q", got.Content.Signatures, signatures)
	}
}

// lacks checks that the content is not known, and why.
func lacks(t *testing.T, got Dependency, reason policy.Reason, says string) {
	t.Helper()
	if got.Content != nil || got.Unavailable.Reason != reason || !strings.Contains(got.Unavailable.Message, says) {
		t.Errorf("%s %s: got content %v, %s: %q, want %s: %q", got.Kind, got.Name, got.Content, got.Unavailable.Reason, got.Unavailable.Message, reason, says)
	}
}

// resolvedRun returns a TaskRun whose Task came from a resolver.
func resolvedRun(resolver v1.ResolverName, source v1.RefSource, modifiers ...func(*v1.TaskRun)) *v1.TaskRun {
	tr := taskRun("run", append(modifiers, func(tr *v1.TaskRun) {
		tr.Spec.TaskRef = &v1.TaskRef{ResolverRef: resolverRef(resolver, param("name", text("build")))}
		tr.Status.Provenance = &v1.Provenance{RefSource: &source}
	})...)
	return tr
}

// answered adds the ResolutionRequest for the Task of a TaskRun. If the status of the
// TaskRun has no spec, it gets that of the Task.
func (w *testCluster) answered(tr *v1.TaskRun, content runtime.Object) *v1beta1.ResolutionRequest {
	w.t.Helper()
	if object, ok := content.(resource.Object); ok && tr.Status.TaskSpec == nil {
		if ran, err := asTask(w.t.Context(), object); err == nil {
			_ = w.recordTaskRun(w.t.Context(), tr, ran) // fails if StepActions are not there yet
		}
	}
	return w.resolve(tr, taskRequestName(w.t.Context(), tr), content, *tr.Status.Provenance.RefSource)
}

func TestCollectTaskRun_ReturnsResolvedTask(t *testing.T) {
	build := sign(task("build", "make"), "own")
	beta := sign(&pipelinev1beta1.Task{TypeMeta: typed(resource.Task, "v1beta1"), ObjectMeta: meta("build")}, "own") //nolint:staticcheck // Tekton still takes them
	beta.Spec.Steps = []pipelinev1beta1.Step{{Name: "step", Image: "alpine"}}
	for name, tc := range map[string]struct {
		resolver v1.ResolverName
		content  resource.Object
		source   v1.RefSource
	}{
		"git":                 {"git", build, gitSource},
		"git, of v1beta1":     {"git", beta, gitSource},
		"cluster resolver":    {"cluster", build, clusterSource(t, build)},
		"without defaults":    {"git", task("build", "make", func(t *v1.Task) { t.Spec.Params = v1.ParamSpecs{{Name: "p"}} }), gitSource},
		"without a name":      {"git", sign(task("", "make"), "own"), gitSource},
		"without a signature": {"git", sign(task("build", "make"), ""), gitSource},
	} {
		t.Run(name, func(t *testing.T) {
			w, tr := newTestCluster(t), resolvedRun(tc.resolver, tc.source)
			w.answered(tr, tc.content)
			got := w.one(tr)
			has(t, got, tc.content, tc.content.GetAnnotations()["tekton.dev/signature"])
			if got.Role != Task || got.Kind != resource.Task || got.Name != tc.content.GetName() || !got.Resolved {
				t.Errorf("got %+v", got)
			}
			if !equality.Semantic.DeepEqual(got.Source, tc.source) {
				t.Errorf("got source %v, want %v", got.Source, tc.source)
			}
		})
	}
}

func TestCollectTaskRun_FindsRequestByParameters(t *testing.T) {
	build := task("build", "make")
	for name, modify := range map[string]func(*v1.TaskRun){
		"a parameter": func(tr *v1.TaskRun) {
			tr.Spec.TaskRef.Params = v1.Params{param("path", text("$(params.dir)/task.yaml"))}
			tr.Spec.Params = v1.Params{param("dir", text("tasks"))}
		},
		"a context": func(tr *v1.TaskRun) {
			tr.Spec.TaskRef.Params = v1.Params{param("path", text("$(context.taskRun.namespace)"))}
		},
		"an array":   func(tr *v1.TaskRun) { tr.Spec.TaskRef.Params = v1.Params{param("paths", array("a", "b"))} },
		"an address": func(tr *v1.TaskRun) { tr.Spec.TaskRef.Name = "https://git.example/task.yaml" },
	} {
		t.Run(name, func(t *testing.T) {
			w, tr := newTestCluster(t), resolvedRun("git", gitSource)
			plain := taskRequestName(t.Context(), tr)
			modify(tr)
			if taskRequestName(t.Context(), tr) == plain {
				t.Error("the name of the ResolutionRequest does not depend on the parameter")
			}
			w.answered(tr, build)
			has(t, w.one(tr), build, "")
		})
	}
}

func TestCollectTaskRun_RejectsUnusableRequest(t *testing.T) {
	build := task("build", "make")
	for name, tc := range map[string]struct {
		spoil func(*v1beta1.ResolutionRequest)
		says  string
	}{
		"of another run":     {func(r *v1beta1.ResolutionRequest) { r.OwnerReferences[0].UID = "another" }, "another run"},
		"without owner":      {func(r *v1beta1.ResolutionRequest) { r.OwnerReferences = nil }, "another run"},
		"failed":             {func(r *v1beta1.ResolutionRequest) { r.Status.Conditions[0].Status = corev1.ConditionFalse }, "did not succeed"},
		"not finished":       {func(r *v1beta1.ResolutionRequest) { r.Status.Conditions = nil }, "did not succeed"},
		"without source":     {func(r *v1beta1.ResolutionRequest) { r.Status.RefSource = nil }, "names no source"},
		"another commit":     {func(r *v1beta1.ResolutionRequest) { r.Status.RefSource.Digest = map[string]string{"sha1": "beef"} }, "another source"},
		"another repository": {func(r *v1beta1.ResolutionRequest) { r.Status.RefSource.URI = "git+https://evil.example" }, "another source"},
		"another file":       {func(r *v1beta1.ResolutionRequest) { r.Status.RefSource.EntryPoint = "evil.yaml" }, "another source"},
		"not base64":         {func(r *v1beta1.ResolutionRequest) { r.Status.Data = "!" }, "base64"},
		"empty":              {func(r *v1beta1.ResolutionRequest) { r.Status.Data = "" }, "ResolutionRequest"},
		"not a resource":     {func(r *v1beta1.ResolutionRequest) { r.Status.Data = base64.StdEncoding.EncodeToString([]byte("text")) }, ""},
		"too large":          {func(r *v1beta1.ResolutionRequest) { r.Status.Data = strings.Repeat("A", MaxContent+1) }, "expected at most"},
	} {
		t.Run(name, func(t *testing.T) {
			w, tr := newTestCluster(t), resolvedRun("git", gitSource)
			request := w.answered(tr, build)
			has(t, w.one(tr), build, "")
			source := *request.Status.RefSource
			request.Status.RefSource = &source
			tc.spoil(request)
			lacks(t, w.one(tr), policy.ContentUnavailable, tc.says)
		})
	}
	w := newTestCluster(t)
	lacks(t, w.one(resolvedRun("git", gitSource)), policy.ContentUnavailable, errNotFound.Error())
	unrecorded := resolvedRun("git", gitSource, func(tr *v1.TaskRun) { tr.Status.Provenance = nil })
	unrecorded.Status.Provenance = nil
	lacks(t, w.one(unrecorded), policy.ContentUnavailable, "no source")
}

func TestCollectTaskRun_RejectsKindThatIsNotATask(t *testing.T) {
	for name, content := range map[string]runtime.Object{
		"v1alpha1.StepAction": &v1alpha1.StepAction{TypeMeta: typed(resource.StepAction, "v1alpha1"), ObjectMeta: meta("build")},
		"CustomRun":           &pipelinev1beta1.CustomRun{TypeMeta: typed("CustomRun", "v1beta1"), ObjectMeta: meta("build")},
		"TaskRun":             &v1.TaskRun{TypeMeta: typed("TaskRun", "v1"), ObjectMeta: meta("build")},
		"Pipeline":            pipeline("build"),
		"StepAction":          stepAction("build", "make"),
	} {
		t.Run(name, func(t *testing.T) {
			w, tr := newTestCluster(t), resolvedRun("git", gitSource)
			w.answered(tr, content)
			lacks(t, w.one(tr), policy.ContentUnavailable, "holds a")
		})
	}
}

// The cluster resolver records the checksum: the content can be compared with it, and
// signatures can be verified after the content is deleted.
func TestCollectTaskRun_UsesChecksumOfClusterResolver(t *testing.T) {
	build := sign(task("build", "make"), "own")
	evil := sign(task("build", "evil"), "own")
	source := clusterSource(t, build)

	t.Run("another content", func(t *testing.T) {
		w, tr := newTestCluster(t), resolvedRun("cluster", source)
		w.answered(tr, evil)
		lacks(t, w.one(tr), policy.DigestMismatch, digestOf(t, evil))
	})
	t.Run("another content, of another resolver", func(t *testing.T) {
		w, tr := newTestCluster(t), resolvedRun("git", source)
		w.answered(tr, evil)
		has(t, w.one(tr), evil, "own")
	})
	t.Run("request deleted, Task unchanged", func(t *testing.T) {
		w, tr := newTestCluster(t), resolvedRun("cluster", source)
		w.objects.put(build)
		got := w.one(tr)
		has(t, got, build, "", "own")
		if got.Name != "build" || got.Namespace != namespace {
			t.Errorf("got %s/%s", got.Namespace, got.Name)
		}
	})
	for name, prepare := range map[string]func(*testCluster){
		"request and Task deleted":      func(*testCluster) {},
		"request deleted, Task changed": func(w *testCluster) { w.objects.put(evil) },
	} {
		t.Run(name, func(t *testing.T) {
			w, tr := newTestCluster(t), resolvedRun("cluster", source, func(tr *v1.TaskRun) { sign(tr, "of the run") })
			prepare(w)
			items := w.CollectTaskRun(t.Context(), tr)
			has(t, items[0], build, "", "of the run")
			lacks(t, items[1], policy.ContentUnavailable, "which StepActions")
		})
	}
	for name, source := range map[string]v1.RefSource{
		"no checksum":     {URI: source.URI},
		"not hexadecimal": {URI: source.URI, Digest: map[string]string{"sha256": "xyz"}},
		"an address":      {URI: "https://evil.example", Digest: source.Digest},
	} {
		t.Run("request deleted, "+name, func(t *testing.T) {
			lacks(t, newTestCluster(t).one(resolvedRun("cluster", source)), policy.ContentUnavailable, errNotFound.Error())
		})
	}
	t.Run("request of another resolver deleted", func(t *testing.T) {
		lacks(t, newTestCluster(t).one(resolvedRun("git", source)), policy.ContentUnavailable, errNotFound.Error())
	})
}

// Candidates come from the content itself, from the object in the cluster if it has
// the same checksum, and from the run.
func TestCandidates_InOrder(t *testing.T) {
	long := strings.Repeat("A", resource.MaxSignatureLength+1)
	for name, tc := range map[string]struct {
		own, live, run string
		liveScript     string
		want           []string
	}{
		"none":                          {"", "", "", "make", []string{""}},
		"own":                           {"own", "own", "own", "make", []string{"own"}},
		"Task signed later":             {"", "later", "", "make", []string{"", "later"}},
		"Task changed and signed later": {"", "later", "", "evil", []string{""}},
		"on the run":                    {"", "", "forged", "make", []string{"", "forged"}},
		"all":                           {"own", "later", "forged", "make", []string{"own", "later", "forged"}},
		"too long on Task and run":      {"own", long, long, "make", []string{"own"}},
		"long on the content itself":    {long, "", "", "make", []string{long}},
	} {
		t.Run(name, func(t *testing.T) {
			content := sign(task("build", "make"), tc.own)
			w, tr := newTestCluster(t), resolvedRun("cluster", clusterSource(t, content), func(tr *v1.TaskRun) { sign(tr, tc.run) })
			w.answered(tr, content)
			w.objects.put(sign(task("build", tc.liveScript), tc.live))
			has(t, w.one(tr), content, tc.want...)
		})
	}
}

// The registry is read if neither the content nor the object in the cluster has a
// signature.
func TestCandidates_FromRegistry(t *testing.T) {
	build := task("build", "make")
	source := clusterSource(t, build)
	inRegistry := map[string]string{digestOf(t, build): "stored"}
	refused := errors.New("connection refused")
	for name, tc := range map[string]struct {
		own, live, run string
		registryErr    error
		want           []string
	}{
		"only in the registry":        {want: []string{"", "stored"}},
		"before that of the run":      {run: "forged", want: []string{"", "stored", "forged"}},
		"content has a signature":     {own: "own", want: []string{"own"}},
		"Task has a signature":        {live: "later", want: []string{"", "later"}},
		"registry fails, not needed":  {own: "own", registryErr: refused, want: []string{"own"}},
		"registry fails, needed":      {registryErr: refused},
		"registry fails, run has one": {run: "forged", registryErr: refused},
	} {
		t.Run(name, func(t *testing.T) {
			content := sign(task("build", "make"), tc.own)
			w, tr := newTestCluster(t), resolvedRun("cluster", source, func(tr *v1.TaskRun) { sign(tr, tc.run) })
			w.stored, w.registryErr = inRegistry, tc.registryErr
			w.answered(tr, content)
			if tc.live != "" {
				w.objects.put(sign(task("build", "make"), tc.live))
			}
			if got := w.one(tr); tc.want == nil {
				lacks(t, got, policy.SignatureUnavailable, refused.Error())
			} else {
				has(t, got, content, tc.want...)
			}
		})
	}
	t.Run("request and Task deleted", func(t *testing.T) {
		w, tr := newTestCluster(t), resolvedRun("cluster", source)
		w.stored = inRegistry
		has(t, w.CollectTaskRun(t.Context(), tr)[0], build, "", "stored")
		w.registryErr = refused
		lacks(t, w.one(tr), policy.SignatureUnavailable, refused.Error())
	})
	t.Run("local Task", func(t *testing.T) {
		w := newTestCluster(t)
		w.stored = inRegistry
		tr := w.ran(localRun(), build)
		has(t, w.one(tr), build, "", "stored")
		w.registryErr = refused
		lacks(t, w.one(tr), policy.SignatureUnavailable, refused.Error())
	})
}

func TestCollectTaskRun_ReportsInlineSpec(t *testing.T) {
	inline := taskRun("run", func(tr *v1.TaskRun) { tr.Spec.TaskSpec = &task("", "make").Spec })
	got := newTestCluster(t).one(inline)
	lacks(t, got, policy.Inline, "itself")
	if got.Source.URI != "" || got.Resolved {
		t.Errorf("got %+v", got)
	}
	if items := newTestCluster(t).CollectTaskRun(t.Context(), taskRun("run")); len(items) != 0 {
		t.Errorf("a TaskRun without Task: got %+v", items)
	}
}

func TestCollectTaskRun_ReturnsConditionAndNoMatchMode(t *testing.T) {
	tr := resolvedRun("git", gitSource)
	tr.Status.Conditions = append(tr.Status.Conditions, apis.Condition{Type: "TrustedResourcesVerified", Status: corev1.ConditionFalse})
	tr.Status.Provenance.FeatureFlags = featureFlags("warn")
	got := newTestCluster(t).one(tr)
	if got.Condition == nil || got.Condition.Status != corev1.ConditionFalse || got.NoMatch != policy.Warn {
		t.Errorf("got %v, %s", got.Condition, got.NoMatch)
	}
	if got := newTestCluster(t).one(resolvedRun("git", gitSource)); got.Condition != nil || got.NoMatch != policy.Skip {
		t.Errorf("got %v, %s", got.Condition, got.NoMatch)
	}
}

// A PipelineRun submits the ResolutionRequests for the Tasks of its TaskRuns.
func TestCollectTaskRun_AcceptsRequestOfPipelineRun(t *testing.T) {
	build := task("build", "make")
	owner := []metav1.OwnerReference{{Name: "pipeline-run", UID: types.UID("uid-of-pipeline-run")}}
	w, tr := newTestCluster(t), resolvedRun("git", gitSource, func(tr *v1.TaskRun) { tr.OwnerReferences = owner })
	w.answered(tr, build).OwnerReferences = owner
	has(t, w.one(tr), build, "")
	tr.OwnerReferences = nil
	lacks(t, w.one(tr), policy.ContentUnavailable, "another run")
}
