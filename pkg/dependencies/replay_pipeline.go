// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
)

var errAnotherPipeline = errors.New("the Pipeline in the cluster or in the ResolutionRequest is not the one that ran")

// derivesPipeline returns nil if the run ran this Pipeline: each value of the
// spec in the run's status is that of the Pipeline, as written or with the
// parameters, contexts and workspaces of the run filled in.
//
// It stands in for a replay with Tekton's own functions. Those are in
// pkg/reconciler/pipelinerun/resources in tektoncd/pipeline, and a program that
// imports that package watches all Pods and Secrets. The substitution in a text
// is Tekton's own function.
func derivesPipeline(pr *v1.PipelineRun, pipeline *v1.Pipeline, written *v1.PipelineSpec) error {
	if pr.Status.PipelineSpec == nil {
		return errNoRecordedSpec
	}
	from, err := tree(written)
	if err != nil {
		return err
	}
	ran, err := tree(pr.Status.PipelineSpec)
	if err != nil {
		return err
	}
	vars := variablesOf(pr, pipeline)
	for vars.rounds = 1; vars.rounds <= maxRounds; vars.rounds++ {
		derives := vars.derive(from, ran)
		if vars.budget.err != nil {
			return vars.budget.err
		}
		if derives {
			return nil
		}
	}
	return errAnotherPipeline
}

// tree returns a spec as decoded JSON.
func tree(spec any) (decoded any, err error) {
	data, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber() // as floating-point numbers, two large numbers may be equal
	return decoded, decoder.Decode(&decoded)
}

// derive reports whether the written value becomes the value that ran.
func (v variables) derive(from, ran any) bool {
	switch from := from.(type) {
	case string:
		return ran == from || hasReference(from) && v.becomes(from, ran)
	case []any:
		ran, ok := ran.([]any)
		return ok && v.deriveList(from, ran)
	case map[string]any:
		ran, ok := ran.(map[string]any)
		return ok && v.deriveObject(from, ran)
	}
	return reflect.DeepEqual(from, ran)
}

func (v variables) becomes(text string, ran any) bool {
	value, err := tree(v.value(text))
	return err == nil && reflect.DeepEqual(value, ran)
}

func (v variables) deriveObject(from, ran map[string]any) bool {
	compared := 0
	for key, value := range from {
		found, present := ran[key]
		switch {
		case !present && v.becomesEmpty(value):
			continue
		case !present || !v.inField(key, from).deriveField(key, value, found):
			return false
		}
		compared++
	}
	return compared == len(ran)
}

// becomesEmpty reports whether a value becomes one that JSON leaves out.
func (v variables) becomesEmpty(value any) bool {
	switch value := value.(type) {
	case string:
		return v.becomes(value, "")
	case []any:
		return v.deriveList(value, nil)
	}
	return false
}

// inField returns the variables in a field of an object. The taskSpec of a task
// has the task's own parameters.
func (v variables) inField(key string, object map[string]any) variables {
	if key != "taskSpec" {
		return v
	}
	var given v1.Params
	data, err := json.Marshal(object["params"])
	if err != nil || json.Unmarshal(data, &given) != nil {
		return v
	}
	return v.withTaskParams(given)
}

// deriveField is derive for a field of an object. The input of a when expression
// stays a text even if it refers to a whole list.
func (v variables) deriveField(key string, from, ran any) bool {
	if v.derive(from, ran) {
		return true
	}
	text, isText := from.(string)
	if key != "input" || !isText {
		return false
	}
	list := v.value(text)
	if list.Type != v1.ParamTypeArray {
		return false
	}
	encoded, err := json.Marshal(list.ArrayVal)
	return err == nil && ran == string(encoded)
}

// deriveList is derive for a list. One written element may become several.
func (v variables) deriveList(from, ran []any) bool {
	for _, element := range from {
		text, isText := element.(string)
		if expanded := v.elements(text); isText && startsWith(ran, expanded) {
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
