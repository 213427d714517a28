package evidence

import (
	"encoding/json"
	"reflect"
	"strings"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	taskresources "github.com/tektoncd/pipeline/pkg/reconciler/taskrun/resources"
)

// derivesPipeline says whether the run ran this Pipeline: each value that the
// run's status says is that of the Pipeline, as written or with the run's
// parameters, contexts and workspaces filled in.
//
// It stands in for a replay with Tekton's own functions, which are in
// pkg/reconciler/pipelinerun/resources in tektoncd/pipeline: who imports that
// package watches all Pods and Secrets. The substitution itself is Tekton's.
func derivesPipeline(pr *v1.PipelineRun, pipeline *v1.Pipeline, written *v1.PipelineSpec) *gap {
	if pr.Status.PipelineSpec == nil {
		return unavailable("the run has recorded no spec")
	}
	from, err := tree(written)
	if err != nil {
		return unavailable("%v", err)
	}
	ran, err := tree(pr.Status.PipelineSpec)
	if err != nil {
		return unavailable("%v", err)
	}
	if !variablesOf(pr, pipeline, from).derive(from, ran) {
		return unavailable("the Pipeline in the cluster is not the one that ran")
	}
	return nil
}

// tree is a spec as JSON has it.
func tree(spec any) (decoded any, err error) {
	data, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	return decoded, json.Unmarshal(data, &decoded)
}

// variables has what substitution makes of each text of a spec that refers to
// a variable.
type variables struct {
	texts  map[string]string
	lists  map[string][]string // as an element of a list
	values map[string]any      // as a whole value that is a list or an object
}

// variablesOf has Tekton substitute each text as if it were the script and an
// argument of a step.
func variablesOf(pr *v1.PipelineRun, pipeline *v1.Pipeline, from any) variables {
	var texts []string
	collect(from, &texts)
	carrier := &v1.TaskSpec{Params: pipeline.Spec.Params}
	for _, text := range texts {
		carrier.Steps = append(carrier.Steps, v1.Step{Script: text, Args: []string{text}})
	}
	run := &v1.TaskRun{Spec: v1.TaskRunSpec{Params: pr.Spec.Params}}
	carrier = taskresources.ApplyParameters(carrier, run, pipeline.Spec.Params...)
	carrier = taskresources.ApplyReplacements(carrier, contexts(pr, pipeline), nil, nil)

	vars := variables{map[string]string{}, map[string][]string{}, wholeValues(pr, pipeline)}
	for i, text := range texts {
		vars.texts[text], vars.lists[text] = carrier.Steps[i].Script, carrier.Steps[i].Args
	}
	return vars
}

// contexts are the variables of Tekton that are no parameters.
func contexts(pr *v1.PipelineRun, pipeline *v1.Pipeline) map[string]string {
	replacements := map[string]string{
		"context.pipelineRun.name":      pr.Name,
		"context.pipelineRun.namespace": pr.Namespace,
		"context.pipelineRun.uid":       string(pr.UID),
		"context.pipeline.name":         pipeline.Name,
	}
	for _, declared := range pipeline.Spec.Workspaces {
		replacements["workspaces."+declared.Name+".bound"] = "false"
	}
	for _, bound := range pr.Spec.Workspaces {
		replacements["workspaces."+bound.Name+".bound"] = "true"
	}
	return replacements
}

// wholeValues are the parameters that replace a reference to all of them,
// $(params.x[*]).
func wholeValues(pr *v1.PipelineRun, pipeline *v1.Pipeline) map[string]any {
	whole := map[string]any{}
	put := func(name string, value v1.ParamValue) {
		if value.Type == v1.ParamTypeString {
			return
		}
		if decoded, err := tree(value); err == nil {
			whole["$(params."+name+"[*])"] = decoded
		}
	}
	for _, declared := range pipeline.Spec.Params {
		if declared.Default != nil {
			put(declared.Name, *declared.Default)
		}
	}
	for _, given := range pr.Spec.Params {
		put(given.Name, given.Value)
	}
	return whole
}

func collect(node any, texts *[]string) {
	switch node := node.(type) {
	case string:
		if strings.Contains(node, "$(") {
			*texts = append(*texts, node)
		}
	case []any:
		for _, element := range node {
			collect(element, texts)
		}
	case map[string]any:
		for _, value := range node {
			collect(value, texts)
		}
	}
}

// derive compares what ran with what was written.
func (v variables) derive(from, ran any) bool {
	switch from := from.(type) {
	case string:
		return ran == from || ran == v.text(from) || v.is(from, ran)
	case []any:
		ran, ok := ran.([]any)
		return ok && v.deriveList(from, ran)
	case map[string]any:
		ran, ok := ran.(map[string]any)
		if !ok || len(from) != len(ran) {
			return false
		}
		for key, value := range from {
			if found, there := ran[key]; !there || !v.derive(value, found) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(from, ran)
}

// deriveList lets one element stand for as many as it expands to.
func (v variables) deriveList(from, ran []any) bool {
	for _, element := range from {
		text, isText := element.(string)
		if expanded, found := v.lists[text]; isText && found && startsWith(ran, expanded) {
			ran = ran[len(expanded):]
			continue
		}
		if len(ran) == 0 || !v.derive(element, ran[0]) {
			return false
		}
		ran = ran[1:]
	}
	return len(ran) == 0
}

func startsWith(list []any, prefix []string) bool {
	if len(list) < len(prefix) {
		return false
	}
	for i, text := range prefix {
		if list[i] != text {
			return false
		}
	}
	return true
}

func (v variables) text(from string) any {
	if text, found := v.texts[from]; found {
		return text
	}
	return from
}

func (v variables) is(from string, ran any) bool {
	whole, found := v.values[from]
	return found && reflect.DeepEqual(whole, ran)
}
