// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// embedded returns a spec that a task of a Pipeline carries itself.
func embedded(script string, modifiers ...func(*v1.TaskSpec)) *v1.EmbeddedTask {
	e := &v1.EmbeddedTask{TaskSpec: task("", script).Spec}
	for _, modify := range modifiers {
		modify(&e.TaskSpec)
	}
	return e
}

// properties declares a parameter as an object like server.
func properties(p *v1.ParamSpec) {
	p.Type, p.Properties = v1.ParamTypeObject, map[string]v1.PropertySpec{"host": {Type: v1.ParamTypeString}, "port": {Type: v1.ParamTypeString}}
}

var server = v1.NewObject(map[string]string{"host": "localhost", "port": "80"})

// substitutions holds one task for each kind of substitution. The parameters are
// those of everySubstitution.
var substitutions = map[string]v1.PipelineTask{
	"none":                      {Params: v1.Params{param("p", text("plain"))}},
	"a parameter":               {Params: v1.Params{param("p", text("a $(params.word) $(params.word)"))}},
	"notations":                 {Params: v1.Params{param("p", text(`$(params["word"]) $(params['word'])`))}},
	"an element and a property": {Params: v1.Params{param("p", text("$(params.list[1]) $(params.server.port)"))}},
	"elements":                  {Params: v1.Params{param("p", array("a", "$(params.list[*])", "$(params.word)"))}},
	"no elements":               {Params: v1.Params{param("p", array("a", "$(params.empty[*])"))}},
	"a whole list":              {Params: v1.Params{param("p", text("$(params.list[*])"))}},
	"a whole list, quoted":      {Params: v1.Params{param("p", text(`$(params["list"][*])`))}},
	"a whole object":            {Params: v1.Params{param("p", text("$(params.server[*])"))}},
	"an object":                 {Params: v1.Params{param("p", v1.NewObject(map[string]string{"k": "$(params.word)"}))}},
	"contexts":                  {Params: v1.Params{param("p", text("$(context.pipelineRun.name) $(context.pipelineRun.namespace) $(context.pipelineRun.uid) $(context.pipeline.name)"))}},
	"bound workspaces":          {Params: v1.Params{param("p", text("$(workspaces.bound.bound) $(workspaces.unbound.bound)"))}},
	"results, not substituted":  {Params: v1.Params{param("p", text("$(tasks.first.results.r) $(params.word)"))}},
	"when":                      {When: v1.WhenExpressions{{Input: "$(params.word)", Operator: selection.In, Values: []string{"$(params.list[*])", "b"}}}},
	"when of a list":            {When: v1.WhenExpressions{{Input: "$(params.list[*])", Operator: selection.In, Values: []string{"b"}}}},
	"when in CEL":               {When: v1.WhenExpressions{{CEL: "'$(params.word)' == 'b'"}}},
	"matrix": {Matrix: &v1.Matrix{Params: v1.Params{param("p", array("$(params.list[*])"))},
		Include: v1.IncludeParamsList{{Name: "i", Params: v1.Params{param("p", text("$(params.word)"))}}}}},
	"matrix of a whole list":    {Matrix: &v1.Matrix{Params: v1.Params{param("p", text("$(params.list[*])"))}}},
	"a reference":               {TaskRef: &v1.TaskRef{ResolverRef: resolverRef("git", param("path", text("$(params.word)/task.yaml")))}},
	"a display name":            {DisplayName: "$(params.word) in $(context.pipelineRun.name)"},
	"an empty display name":     {DisplayName: "$(params.nothing)"},
	"subpath of a workspace":    {Workspaces: []v1.WorkspacePipelineTaskBinding{{Name: "w", Workspace: "bound", SubPath: "$(params.word)"}}},
	"onError":                   {OnError: "$(params.onError)"},
	"an embedded spec":          {TaskSpec: embedded("$(params.word) $(context.pipelineRun.name)", func(s *v1.TaskSpec) { s.Steps[0].Args = []string{"$(params.list[*])"} })},
	"an embedded spec, no args": {TaskSpec: embedded("x", func(s *v1.TaskSpec) { s.Steps[0].Args = []string{"$(params.empty[*])"} })},
	"an embedded spec with its own": {Params: v1.Params{param("word", text("own"))},
		TaskSpec: embedded("$(params.word)", func(s *v1.TaskSpec) { s.Params = v1.ParamSpecs{spec("word", nil)} })},
	"an embedded spec with one of the run": {Params: v1.Params{param("word", text("x$(params.word)"))},
		TaskSpec: embedded("$(params.word)", func(s *v1.TaskSpec) { s.Params = v1.ParamSpecs{spec("word", nil)} })},
	"an embedded spec with its own list": {Params: v1.Params{param("list", array("own", "$(params.word)"))},
		TaskSpec: embedded("x", func(s *v1.TaskSpec) { s.Steps[0].Args = []string{"$(params.list[*])"} })},
	"an embedded spec with its own object": {Params: v1.Params{param("server", v1.NewObject(map[string]string{"host": "own", "port": "$(params.word)"}))},
		TaskSpec: embedded("$(params.server.host) $(params.server.port)")},
	"an embedded spec with its own default": {TaskSpec: embedded("$(params.word)", func(s *v1.TaskSpec) { s.Params = v1.ParamSpecs{spec("word", text("own"))} })},
	"defaults of defaults":                  {Params: v1.Params{param("p", text("$(params.chain) $(params.chained[0]) $(params.chainedTo.host)"))}},
}

// everySubstitution returns a Pipeline with all substitutions.
func everySubstitution() *v1.Pipeline {
	p := pipeline("all")
	p.Spec.Workspaces = []v1.PipelineWorkspaceDeclaration{{Name: "bound"}, {Name: "unbound", Optional: true}}
	p.Spec.Params = v1.ParamSpecs{
		spec("word", text("default")), spec("list", array("default")), spec("server", server, properties),
		spec("empty", nil, ofType(v1.ParamTypeArray)), spec("nothing", text("")), spec("onError", text("continue")),
		spec("chain", text("$(params.link)/chain")), spec("link", text("$(params.word)/link")),
		spec("chained", array("$(params.chain)")), spec("chainedTo", v1.NewObject(map[string]string{"host": "$(params.chain)", "port": ""}), properties),
	}
	for name, task := range substitutions {
		task.Name = name
		p.Spec.Tasks = append(p.Spec.Tasks, *task.DeepCopy())
	}
	p.Spec.Finally = []v1.PipelineTask{{Name: "finally", Params: v1.Params{param("p", text("$(params.word)"))}}}
	return p
}

// runs holds the parameters of runs of everySubstitution.
var runs = map[string]v1.Params{
	"with defaults": {param("empty", array())},
	"with values":   {param("empty", array()), param("word", text("given")), param("list", array("a", "b", "c")), param("server", server)},
	"with values that refer to others": {param("empty", array()), param("word", text("$(params.onError) $(context.pipelineRun.name)")),
		param("list", array("$(params.onError)", "b"))},
	"with a chain of its own": {param("empty", array()), param("chain", text("given")), param("nothing", text("x"))},
}

func TestCollectPipelineRun_ProvesLocalPipelineAfterEachSubstitution(t *testing.T) {
	for way, params := range runs {
		for name, task := range substitutions {
			t.Run(way+"/"+name, func(t *testing.T) {
				p := everySubstitution()
				p.Spec.Tasks = []v1.PipelineTask{*task.DeepCopy()}
				pr := recorded(t, p, params)
				w := newTestCluster(t)
				w.objects.put(p)
				got := w.CollectPipelineRun(t.Context(), pr, nil)[0]
				has(t, got, p, "")
				if got.Role != Pipeline || got.Resolved || got.Source.URI != clusterSource(t, p).URI {
					t.Errorf("got %+v", got)
				}
				evil := p.DeepCopy()
				evil.Spec.Tasks[0].Params = append(evil.Spec.Tasks[0].Params, param("evil", text("evil")))
				w.objects.put(evil)
				lacks(t, w.CollectPipelineRun(t.Context(), pr, nil)[0], policy.ContentUnavailable, "not the one that ran")
			})
		}
	}
}

// recorded returns a run of the Pipeline as Tekton records it.
func recorded(t *testing.T, p *v1.Pipeline, params v1.Params) *v1.PipelineRun {
	t.Helper()
	pr := pipelineRun(func(pr *v1.PipelineRun) {
		pr.Spec.PipelineRef = &v1.PipelineRef{Name: p.Name}
		pr.Spec.Params = params
		pr.Spec.Workspaces = []v1.WorkspaceBinding{binding("bound")}
	})
	if err := recordPipelineRun(t.Context(), pr, p); err != nil {
		t.Fatal(err)
	}
	return stored(pr)
}

// A text that ran proves a variable only if the run gave the variable that value.
func TestCollectPipelineRun_RejectsValueThatTheRunDidNotGive(t *testing.T) {
	for name, tc := range map[string]struct{ ran, written v1.PipelineTask }{
		"another value":         {v1.PipelineTask{DisplayName: "evil"}, v1.PipelineTask{DisplayName: "$(params.word)"}},
		"another parameter":     {v1.PipelineTask{DisplayName: "$(params.onError)"}, v1.PipelineTask{DisplayName: "$(params.word)"}},
		"an unknown variable":   {v1.PipelineTask{DisplayName: "evil"}, v1.PipelineTask{DisplayName: "$(params.nowhere)"}},
		"a result":              {v1.PipelineTask{DisplayName: "evil"}, v1.PipelineTask{DisplayName: "$(tasks.a.results.b)"}},
		"more than was written": {v1.PipelineTask{DisplayName: "evil"}, v1.PipelineTask{}},
		"less than was written": {v1.PipelineTask{}, v1.PipelineTask{DisplayName: "good"}},
		"a shorter list": {v1.PipelineTask{Params: v1.Params{param("p", array("default", "evil"))}},
			v1.PipelineTask{Params: v1.Params{param("p", array("$(params.list[*])"))}}},
		"a longer list": {v1.PipelineTask{Params: v1.Params{param("p", array("evil"))}},
			v1.PipelineTask{Params: v1.Params{param("p", array("$(params.list[*])", "$(params.empty[*])"))}}},
		"a list as a text, where no condition is": {v1.PipelineTask{DisplayName: `["default"]`}, v1.PipelineTask{DisplayName: "$(params.list[*])"}},
		"the pipeline's value in a spec with its own": {
			v1.PipelineTask{Params: v1.Params{param("word", text("own"))}, TaskSpec: embedded("default")},
			v1.PipelineTask{Params: v1.Params{param("word", text("own"))}, TaskSpec: embedded("$(params.word)")}},
		"a name of v1beta1": {v1.PipelineTask{TaskSpec: embedded("default")}, v1.PipelineTask{TaskSpec: embedded("$(inputs.params.word)")}},
	} {
		t.Run(name, func(t *testing.T) {
			ran, written := everySubstitution(), everySubstitution()
			ran.Spec.Tasks, written.Spec.Tasks = []v1.PipelineTask{tc.ran}, []v1.PipelineTask{tc.written}
			w := newTestCluster(t)
			w.objects.put(ran)
			pr := recorded(t, ran, runs["with defaults"])
			has(t, w.CollectPipelineRun(t.Context(), pr, nil)[0], ran, "")
			w.objects.put(written)
			lacks(t, w.CollectPipelineRun(t.Context(), pr, nil)[0], policy.ContentUnavailable, "not the one that ran")
		})
	}
}

// The two numbers are equal as floating-point numbers.
func TestReplaysPipeline_TellsLargeNumbersApart(t *testing.T) {
	withUser := func(id int64) *v1.Pipeline {
		return pipeline("p", v1.PipelineTask{TaskSpec: embedded("x", func(s *v1.TaskSpec) {
			s.Steps[0].SecurityContext = &corev1.SecurityContext{RunAsUser: &id}
		})})
	}
	pr := recorded(t, withUser(1<<60), nil)
	if missing := replaysPipeline(t.Context(), pr, withUser(1<<60)); missing != nil {
		t.Error(missing)
	}
	if missing := replaysPipeline(t.Context(), pr, withUser(1<<60+1)); missing == nil {
		t.Error("a Pipeline with another number is taken for the one that ran")
	}
}

func TestCollectPipelineRun_ReportsMissingPipeline(t *testing.T) {
	p := everySubstitution()
	pr := recorded(t, p, runs["with defaults"])
	lacks(t, newTestCluster(t).CollectPipelineRun(t.Context(), pr, nil)[0], policy.ContentUnavailable, "not in the cluster")
	w := newTestCluster(t)
	w.objects.put(p)
	pr.Status.PipelineSpec = nil
	lacks(t, w.CollectPipelineRun(t.Context(), pr, nil)[0], policy.ContentUnavailable, "no spec")
	pr.Spec.PipelineRef, pr.Spec.PipelineSpec = nil, &p.Spec
	lacks(t, w.CollectPipelineRun(t.Context(), pr, nil)[0], policy.Inline, "itself")
}
