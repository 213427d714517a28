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
)

// one is the only item of a TaskRun.
func (w *world) one(tr *v1.TaskRun) Dependency {
	w.t.Helper()
	items := w.CollectTaskRun(w.t.Context(), tr)
	if len(items) != 1 {
		w.t.Fatalf("got %d items, want one: %+v", len(items), items)
	}
	return items[0]
}

// has checks that the content is that of the object, with those candidates.
func has(t *testing.T, got Dependency, of resource.Object, signatures ...string) {
	t.Helper()
	if got.Content == nil {
		t.Fatalf("%s %s has no content: %s: %s", got.Kind, got.Name, got.Unavailable.Reason, got.Unavailable.Message)
	}
	if want := must(resource.Checksum(t.Context(), of)); string(got.Content.Checksum) != string(want) {
		t.Errorf("got checksum %x, want %x", got.Content.Checksum, want)
	}
	if !equality.Semantic.DeepEqual(got.Content.Signatures, signatures) {
		t.Errorf("got candidates %q, want %q", got.Content.Signatures, signatures)
	}
}

func lacks(t *testing.T, got Dependency, reason policy.Reason, says string) {
	t.Helper()
	if got.Content != nil || got.Unavailable.Reason != reason || !strings.Contains(got.Unavailable.Message, says) {
		t.Errorf("%s %s: got content %v, %s: %q, want %s: %q", got.Kind, got.Name, got.Content, got.Unavailable.Reason, got.Unavailable.Message, reason, says)
	}
}

// resolvedRun is a TaskRun whose Task came from a resolver.
func resolvedRun(resolver v1.ResolverName, source v1.RefSource, modifiers ...func(*v1.TaskRun)) *v1.TaskRun {
	tr := taskRun("run", append(modifiers, func(tr *v1.TaskRun) {
		tr.Spec.TaskRef = &v1.TaskRef{ResolverRef: resolverRef(resolver, param("name", text("build")))}
		tr.Status.Provenance = &v1.Provenance{RefSource: &source}
	})...)
	return tr
}

// answered has the request for the run's Task answered.
func (w *world) answered(tr *v1.TaskRun, content runtime.Object) *v1beta1.ResolutionRequest {
	w.t.Helper()
	return w.resolve(tr, taskRequestName(w.t.Context(), tr), content, *tr.Status.Provenance.RefSource)
}

func TestATaskFromAResolver(t *testing.T) {
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
		"the cluster's":       {"cluster", build, clusterSource(t, build)},
		"without defaults":    {"git", task("build", "make", func(t *v1.Task) { t.Spec.Params = v1.ParamSpecs{{Name: "p"}} }), gitSource},
		"without a name":      {"git", sign(task("", "make"), "own"), gitSource},
		"without a signature": {"git", sign(task("build", "make"), ""), gitSource},
	} {
		t.Run(name, func(t *testing.T) {
			w, tr := newWorld(t), resolvedRun(tc.resolver, tc.source)
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

func TestTheRequestOfARunWithParameters(t *testing.T) {
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
			w, tr := newWorld(t), resolvedRun("git", gitSource)
			plain := taskRequestName(t.Context(), tr)
			modify(tr)
			if taskRequestName(t.Context(), tr) == plain {
				t.Error("the name of the request does not depend on it")
			}
			w.answered(tr, build)
			has(t, w.one(tr), build, "")
		})
	}
}

// A request shows something only if it is that of the run.
func TestARequestThatShowsNothing(t *testing.T) {
	build := task("build", "make")
	for name, tc := range map[string]struct {
		spoil func(*v1beta1.ResolutionRequest)
		says  string
	}{
		"of another run":     {func(r *v1beta1.ResolutionRequest) { r.OwnerReferences[0].UID = "another" }, "another run"},
		"of nobody":          {func(r *v1beta1.ResolutionRequest) { r.OwnerReferences = nil }, "another run"},
		"failed":             {func(r *v1beta1.ResolutionRequest) { r.Status.Conditions[0].Status = corev1.ConditionFalse }, "did not succeed"},
		"not done":           {func(r *v1beta1.ResolutionRequest) { r.Status.Conditions = nil }, "did not succeed"},
		"without source":     {func(r *v1beta1.ResolutionRequest) { r.Status.RefSource = nil }, "names no source"},
		"another commit":     {func(r *v1beta1.ResolutionRequest) { r.Status.RefSource.Digest = map[string]string{"sha1": "beef"} }, "another source"},
		"another repository": {func(r *v1beta1.ResolutionRequest) { r.Status.RefSource.URI = "git+https://evil.example" }, "another source"},
		"another file":       {func(r *v1beta1.ResolutionRequest) { r.Status.RefSource.EntryPoint = "evil.yaml" }, "another source"},
		"no base64":          {func(r *v1beta1.ResolutionRequest) { r.Status.Data = "!" }, "base64"},
		"empty":              {func(r *v1beta1.ResolutionRequest) { r.Status.Data = "" }, "ResolutionRequest"},
		"no resource":        {func(r *v1beta1.ResolutionRequest) { r.Status.Data = base64.StdEncoding.EncodeToString([]byte("text")) }, ""},
		"too large":          {func(r *v1beta1.ResolutionRequest) { r.Status.Data = strings.Repeat("A", MaxContent+1) }, "expected at most"},
	} {
		t.Run(name, func(t *testing.T) {
			w, tr := newWorld(t), resolvedRun("git", gitSource)
			request := w.answered(tr, build)
			has(t, w.one(tr), build, "") // until it is spoiled
			source := *request.Status.RefSource
			request.Status.RefSource = &source
			tc.spoil(request)
			lacks(t, w.one(tr), policy.ContentUnavailable, tc.says)
		})
	}
	w := newWorld(t)
	lacks(t, w.one(resolvedRun("git", gitSource)), policy.ContentUnavailable, errNotFound.Error())
	unrecorded := resolvedRun("git", gitSource, func(tr *v1.TaskRun) { tr.Status.Provenance = nil })
	unrecorded.Status.Provenance = nil
	lacks(t, w.one(unrecorded), policy.ContentUnavailable, "no source")
}

func TestWhatCannotBeSignedIsNoContent(t *testing.T) {
	for name, content := range map[string]runtime.Object{
		"v1alpha1.StepAction": &v1alpha1.StepAction{TypeMeta: typed(resource.StepAction, "v1alpha1"), ObjectMeta: meta("build")},
		"CustomRun":           &pipelinev1beta1.CustomRun{TypeMeta: typed("CustomRun", "v1beta1"), ObjectMeta: meta("build")},
		"TaskRun":             &v1.TaskRun{TypeMeta: typed("TaskRun", "v1"), ObjectMeta: meta("build")},
		"Pipeline":            pipeline("build"),
		"StepAction":          stepAction("build", "make"),
	} {
		t.Run(name, func(t *testing.T) {
			w, tr := newWorld(t), resolvedRun("git", gitSource)
			w.answered(tr, content)
			lacks(t, w.one(tr), policy.ContentUnavailable, "holds a")
		})
	}
}

// The cluster resolver records the checksum: what it returned can be checked,
// and verified when it is gone.
func TestTheChecksumThatTheClusterResolverRecords(t *testing.T) {
	build := sign(task("build", "make"), "own")
	evil := sign(task("build", "evil"), "own")
	source := clusterSource(t, build)

	t.Run("another content", func(t *testing.T) {
		w, tr := newWorld(t), resolvedRun("cluster", source)
		w.answered(tr, evil)
		lacks(t, w.one(tr), policy.DigestMismatch, digestOf(t, evil))
	})
	t.Run("another content of a resolver that records none", func(t *testing.T) {
		w, tr := newWorld(t), resolvedRun("git", source)
		w.answered(tr, evil)
		has(t, w.one(tr), evil, "own")
	})
	t.Run("gone, and the Task is as it was", func(t *testing.T) {
		w, tr := newWorld(t), resolvedRun("cluster", source)
		w.objects.put(build)
		got := w.one(tr)
		has(t, got, build, "", "own")
		if got.Name != "build" || got.Namespace != namespace {
			t.Errorf("got %s/%s", got.Namespace, got.Name)
		}
	})
	for name, prepare := range map[string]func(*world){
		"gone, and the Task, too":       func(*world) {},
		"gone, and the Task is another": func(w *world) { w.objects.put(evil) },
	} {
		t.Run(name, func(t *testing.T) {
			w, tr := newWorld(t), resolvedRun("cluster", source, func(tr *v1.TaskRun) { sign(tr, "of the run") })
			prepare(w)
			items := w.CollectTaskRun(t.Context(), tr)
			has(t, items[0], build, "", "of the run")
			lacks(t, items[1], policy.ContentUnavailable, "which StepActions")
		})
	}
	for name, source := range map[string]v1.RefSource{
		"no checksum":    {URI: source.URI},
		"no hexadecimal": {URI: source.URI, Digest: map[string]string{"sha256": "xyz"}},
		"an address":     {URI: "https://evil.example", Digest: source.Digest},
	} {
		t.Run("gone, "+name, func(t *testing.T) {
			lacks(t, newWorld(t).one(resolvedRun("cluster", source)), policy.ContentUnavailable, errNotFound.Error())
		})
	}
	t.Run("gone, of another resolver", func(t *testing.T) {
		lacks(t, newWorld(t).one(resolvedRun("git", source)), policy.ContentUnavailable, errNotFound.Error())
	})
}

// Candidates are of the content itself, of the resource in the cluster if that
// is the same, and of the run.
func TestCandidates(t *testing.T) {
	long := strings.Repeat("A", resource.MaxSignatureLength+1)
	for name, tc := range map[string]struct {
		own, live, run string
		liveScript     string
		want           []string
	}{
		"none":                         {"", "", "", "make", []string{""}},
		"own":                          {"own", "own", "own", "make", []string{"own"}},
		"the Task was signed later":    {"", "later", "", "make", []string{"", "later"}},
		"… and changed":                {"", "later", "", "evil", []string{""}},
		"on the run":                   {"", "", "forged", "make", []string{"", "forged"}},
		"all":                          {"own", "later", "forged", "make", []string{"own", "later", "forged"}},
		"long ones, of others":         {"own", long, long, "make", []string{"own"}},
		"a long one, which Tekton saw": {long, "", "", "make", []string{long}},
	} {
		t.Run(name, func(t *testing.T) {
			content := sign(task("build", "make"), tc.own)
			w, tr := newWorld(t), resolvedRun("cluster", clusterSource(t, content), func(tr *v1.TaskRun) { sign(tr, tc.run) })
			w.answered(tr, content)
			w.objects.put(sign(task("build", tc.liveScript), tc.live))
			has(t, w.one(tr), content, tc.want...)
		})
	}
}

// A registry is asked for what neither the content nor the cluster has.
func TestTheSignatureInARegistry(t *testing.T) {
	build := task("build", "make")
	source := clusterSource(t, build)
	inRegistry := map[string]string{digestOf(t, build): "stored"}
	away := errors.New("connection refused")
	for name, tc := range map[string]struct {
		own, live, run string
		away           error
		want           []string
	}{
		"nowhere else":                {want: []string{"", "stored"}},
		"before the one of the run":   {run: "forged", want: []string{"", "stored", "forged"}},
		"not if it is its own":        {own: "own", want: []string{"own"}},
		"not if the Task has one":     {live: "later", want: []string{"", "later"}},
		"which is away, not needed":   {own: "own", away: away, want: []string{"own"}},
		"which is away, and it is":    {away: away},
		"which is away, of any run's": {run: "forged", away: away},
	} {
		t.Run(name, func(t *testing.T) {
			content := sign(task("build", "make"), tc.own)
			w, tr := newWorld(t), resolvedRun("cluster", source, func(tr *v1.TaskRun) { sign(tr, tc.run) })
			w.stored, w.away = inRegistry, tc.away
			w.answered(tr, content)
			if tc.live != "" {
				w.objects.put(sign(task("build", "make"), tc.live))
			}
			if got := w.one(tr); tc.want == nil {
				lacks(t, got, policy.SignatureUnavailable, away.Error())
			} else {
				has(t, got, content, tc.want...)
			}
		})
	}
	t.Run("when all else is gone", func(t *testing.T) {
		w, tr := newWorld(t), resolvedRun("cluster", source)
		w.stored = inRegistry
		has(t, w.CollectTaskRun(t.Context(), tr)[0], build, "", "stored")
		w.away = away
		lacks(t, w.one(tr), policy.SignatureUnavailable, away.Error())
	})
	t.Run("of a local Task", func(t *testing.T) {
		w := newWorld(t)
		w.stored = inRegistry
		tr := w.ran(localRun(), build)
		has(t, w.one(tr), build, "", "stored")
		w.away = away
		lacks(t, w.one(tr), policy.SignatureUnavailable, away.Error())
	})
}

func TestAnInlineSpec(t *testing.T) {
	inline := taskRun("run", func(tr *v1.TaskRun) { tr.Spec.TaskSpec = &task("", "make").Spec })
	got := newWorld(t).one(inline)
	lacks(t, got, policy.Inline, "itself")
	if got.Source.URI != "" || got.Resolved {
		t.Errorf("got %+v", got)
	}
	if items := newWorld(t).CollectTaskRun(t.Context(), taskRun("run")); len(items) != 0 {
		t.Errorf("a run of nothing: got %+v", items)
	}
}

// What Tekton did is part of the evidence.
func TestWhatTektonDid(t *testing.T) {
	tr := resolvedRun("git", gitSource)
	tr.Status.Conditions = append(tr.Status.Conditions, apis.Condition{Type: "TrustedResourcesVerified", Status: corev1.ConditionFalse})
	tr.Status.Provenance.FeatureFlags = featureFlags("warn")
	got := newWorld(t).one(tr)
	if got.Condition == nil || got.Condition.Status != corev1.ConditionFalse || got.NoMatch != policy.Warn {
		t.Errorf("got %v, %s", got.Condition, got.NoMatch)
	}
	if got := newWorld(t).one(resolvedRun("git", gitSource)); got.Condition != nil || got.NoMatch != policy.Skip {
		t.Errorf("got %v, %s", got.Condition, got.NoMatch)
	}
}

// The PipelineRun asks for the Tasks of its TaskRuns.
func TestARequestOfThePipelineRun(t *testing.T) {
	build := task("build", "make")
	owner := []metav1.OwnerReference{{Name: "pipeline-run", UID: types.UID("uid-of-pipeline-run")}}
	w, tr := newWorld(t), resolvedRun("git", gitSource, func(tr *v1.TaskRun) { tr.OwnerReferences = owner })
	w.answered(tr, build).OwnerReferences = owner
	has(t, w.one(tr), build, "")
	tr.OwnerReferences = nil
	lacks(t, w.one(tr), policy.ContentUnavailable, "another run")
}
