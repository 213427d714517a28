// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// request is a run for a dry run: the API server admits it and does not store it.
type request struct {
	namespace, version, kind, spec string
}

// dryRunCreate returns the spec that the API server would store.
func (e *env) dryRunCreate(r request) (map[string]any, error) {
	e.t.Helper()
	client, err := dynamic.NewForConfig(cluster.Admin)
	e.check(err)
	var spec map[string]any
	e.check(json.Unmarshal([]byte(r.spec), &spec))
	run := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	run.SetAPIVersion("tekton.dev/" + r.version)
	run.SetKind(r.kind)
	run.SetGenerateName("dry-run-")
	gvr := schema.GroupVersionResource{Group: "tekton.dev", Version: r.version, Resource: strings.ToLower(r.kind) + "s"}
	run, err = client.Resource(gvr).Namespace(r.namespace).Create(e.t.Context(), run, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return nil, err
	}
	spec, _, err = unstructured.NestedMap(run.Object, "spec")
	return spec, err
}

// Both carriers add the cluster resolver to each reference that Tekton treats as local.
// They change nothing else.
func TestAdmission_RewritesOnlyLocalReferences(t *testing.T) {
	for carrier, install := range carriers {
		t.Run(carrier, func(t *testing.T) { rewritesOnlyLocalReferences(t, install) })
	}
}

func rewritesOnlyLocalReferences(t *testing.T, install func(*env)) {
	t.Helper()
	e := newEnv(t)
	in, out := e.namespace(), e.namespaceLabelled(nil)
	optedOut := e.namespaceLabelled(map[string]string{v1alpha1.SignLabel: "false"})

	tests := map[string]struct {
		request
		rewritten string // the field that the policies change, or ""
	}{
		"task":                      {request{in, "v1", "TaskRun", `{"taskRef":{"name":"x"}}`}, "taskRef"},
		"task with its kind":        {request{in, "v1", "TaskRun", `{"taskRef":{"name":"x","kind":"Task","apiVersion":"tekton.dev/v1"}}`}, "taskRef"},
		"task with another kind":    {request{in, "v1", "TaskRun", `{"taskRef":{"name":"x","kind":"Any","apiVersion":"example.dev/v1"}}`}, "taskRef"},
		"task, empty resolver":      {request{in, "v1", "TaskRun", `{"taskRef":{"name":"x","resolver":""}}`}, "taskRef"},
		"task, null resolver":       {request{in, "v1", "TaskRun", `{"taskRef":{"name":"x","resolver":null}}`}, "taskRef"},
		"task, no parameters":       {request{in, "v1", "TaskRun", `{"taskRef":{"name":"x","params":[]}}`}, "taskRef"},
		"task in v1beta1":           {request{in, "v1beta1", "TaskRun", `{"taskRef":{"name":"x"}}`}, "taskRef"},
		"pipeline":                  {request{in, "v1", "PipelineRun", `{"pipelineRef":{"name":"x"}}`}, "pipelineRef"},
		"pipeline with apiVersion":  {request{in, "v1", "PipelineRun", `{"pipelineRef":{"name":"x","apiVersion":"example.dev/v1"}}`}, "pipelineRef"},
		"pipeline, empty resolver":  {request{in, "v1", "PipelineRun", `{"pipelineRef":{"name":"x","resolver":""}}`}, "pipelineRef"},
		"pipeline in v1beta1":       {request{in, "v1beta1", "PipelineRun", `{"pipelineRef":{"name":"x"}}`}, "pipelineRef"},
		"resolver":                  {request{in, "v1", "TaskRun", `{"taskRef":{"resolver":"git","params":[{"name":"url","value":"u"}]}}`}, ""},
		"cluster resolver":          {request{in, "v1", "TaskRun", `{"taskRef":{"resolver":"cluster","params":[{"name":"namespace","value":"tools"}]}}`}, ""},
		"pipeline by resolver":      {request{in, "v1", "PipelineRun", `{"pipelineRef":{"resolver":"git","params":[{"name":"url","value":"u"}]}}`}, ""},
		"URL with resolver":         {request{in, "v1", "TaskRun", `{"taskRef":{"name":"https://example.dev/x","resolver":"git"}}`}, ""},
		"name and parameters":       {request{in, "v1", "TaskRun", `{"taskRef":{"name":"x","resolver":"git","params":[{"name":"url","value":"u"}]}}`}, ""},
		"no name":                   {request{in, "v1", "TaskRun", `{"taskRef":{"kind":"Task"}}`}, ""},
		"no reference":              {request{in, "v1", "TaskRun", `{"timeout":"1m"}`}, ""},
		"inline task":               {request{in, "v1", "TaskRun", `{"taskSpec":{"steps":[{"name":"s","image":"i","script":"echo"}]}}`}, ""},
		"inline task, null":         {request{in, "v1", "TaskRun", `{"taskRef":null,"taskSpec":{"steps":[{"name":"s","image":"i","script":"echo"}]}}`}, ""},
		"inline pipeline":           {request{in, "v1", "PipelineRun", `{"pipelineSpec":{"tasks":[{"name":"t","taskRef":{"name":"x"}}]}}`}, ""},
		"bundle":                    {request{in, "v1beta1", "TaskRun", `{"taskRef":{"name":"x","bundle":"registry.example/b"}}`}, ""},
		"bundle of a pipeline":      {request{in, "v1beta1", "PipelineRun", `{"pipelineRef":{"name":"x","bundle":"registry.example/b"}}`}, ""},
		"custom task":               {request{in, "v1beta1", "CustomRun", `{"customRef":{"name":"x","kind":"Any","apiVersion":"example.dev/v1"}}`}, ""},
		"namespace without label":   {request{out, "v1", "TaskRun", `{"taskRef":{"name":"x"}}`}, ""},
		"pipeline without label":    {request{out, "v1", "PipelineRun", `{"pipelineRef":{"name":"x"}}`}, ""},
		"namespace that opted out":  {request{optedOut, "v1", "TaskRun", `{"taskRef":{"name":"x"}}`}, ""},
		"pipeline where opted out":  {request{optedOut, "v1", "PipelineRun", `{"pipelineRef":{"name":"x"}}`}, ""},
		"v1beta1 without the label": {request{out, "v1beta1", "TaskRun", `{"taskRef":{"name":"x"}}`}, ""},
	}
	type outcome struct {
		spec map[string]any
		err  string
	}
	ask := func(r request) (o outcome) {
		spec, err := e.dryRunCreate(r)
		if err != nil {
			o.err = err.Error()
		}
		o.spec = spec
		return o
	}
	before := map[string]outcome{}
	for name, test := range tests {
		before[name] = ask(test.request)
	}
	install(e)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := ask(test.request)
			if test.rewritten != "" {
				e.sub(t).expectClusterResolver(got.spec[test.rewritten], test.namespace)
			} else if !reflect.DeepEqual(got, before[name]) {
				t.Errorf("got %+v, want the same as without the policies: %+v", got, before[name])
			}
		})
	}
}

// expectClusterResolver requires that a reference names x through the cluster resolver.
func (e *env) expectClusterResolver(reference any, namespace string) {
	e.t.Helper()
	ref, _ := reference.(map[string]any)
	params := map[string]any{}
	list, _ := ref["params"].([]any)
	for _, p := range list {
		param, _ := p.(map[string]any)
		params[fmt.Sprint(param["name"])] = param["value"]
	}
	if ref["resolver"] != "cluster" || ref["name"] != nil || params["name"] != "x" || params["namespace"] != namespace {
		e.t.Errorf("got reference %v, want resolver cluster with name x and namespace %s", reference, namespace)
	}
}

// The carriers do not break kubectl apply: a run that was created before stays as it is,
// and a run that was created with them can be applied again.
func TestAdmission_AllowsManifestsToBeAppliedAgain(t *testing.T) {
	for carrier, install := range carriers {
		t.Run(carrier, func(t *testing.T) { allowsManifestsToBeAppliedAgain(t, install) })
	}
}

func allowsManifestsToBeAppliedAgain(t *testing.T, install func(*env)) {
	t.Helper()
	e := newEnv(t)
	ns := e.namespace()
	manifests := func(name string) string {
		return fmt.Sprintf(`
{"apiVersion":"tekton.dev/v1","kind":"TaskRun","metadata":{"name":%[1]q,"namespace":%[2]q},"spec":{"taskRef":{"name":"x"}}}
---
{"apiVersion":"tekton.dev/v1","kind":"PipelineRun","metadata":{"name":%[1]q,"namespace":%[2]q},"spec":{"pipelineRef":{"name":"x"}}}
`, name, ns)
	}
	e.kubectlApply(manifests("from-before"))
	install(e)
	e.kubectlApply(manifests("from-before"))
	for range 2 {
		e.kubectlApply(manifests("client-side"))
		e.kubectlApply(manifests("server-side"), "--server-side")
	}
	run, err := cluster.Tekton.TektonV1().TaskRuns(ns).Get(t.Context(), "client-side", metav1.GetOptions{})
	e.check(err)
	if ref := run.Spec.TaskRef; ref.Resolver != "cluster" || ref.Name != "" {
		t.Errorf("after the second apply the reference is %+v, want resolver cluster without a name", ref)
	}
}

// A validating policy rejects runs whose reference is still local, because another
// mutating webhook may change a run after our policy. In this test the mutating policies
// are not bound at all.
func TestAdmission_RejectsReferencesThatStayLocal(t *testing.T) {
	e := newEnv(t)
	ns := e.namespace()
	e.installAdmission()
	_, err := cluster.RunKubectl(t.Context(), "", "delete", "mutatingadmissionpolicybinding",
		"taskruns.trustedresources.tekton.dev", "pipelineruns.trustedresources.tekton.dev")
	e.check(err)
	for _, r := range []request{
		{ns, "v1", "TaskRun", `{"taskRef":{"name":"x"}}`},
		{ns, "v1beta1", "TaskRun", `{"taskRef":{"name":"x"}}`},
		{ns, "v1", "PipelineRun", `{"pipelineRef":{"name":"x"}}`},
	} {
		e.eventually(soon, func() error {
			spec, err := e.dryRunCreate(r)
			if err == nil || !strings.Contains(err.Error(), "use the cluster resolver") {
				return fmt.Errorf("%s in %s: got %v, %w", r.kind, r.version, spec, err)
			}
			return nil
		})
	}
}
