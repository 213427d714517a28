// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"fmt"
	"maps"
	"strings"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/substitution"
)

// variables are the values that Tekton fills in for the variables of a Pipeline,
// by the name of the variable.
type variables struct {
	replacements
	contexts map[string]string // filled in after the parameters, also in their values
	rounds   int               // of substitution
	sizes    sizes             // of all of them
	budget   *budget           // its err says that a text was left as it is
}

// notations are the forms of a reference to a parameter.
var notations = []string{"params.%s", "params[%q]", "params['%s']"}

// taskNotations are those in Tasks and StepActions.
var taskNotations = append([]string{"inputs.params.%s"}, notations...)

func variablesOf(pr *v1.PipelineRun, pipeline *v1.Pipeline) variables {
	v := variables{replacements: newReplacements(), contexts: contexts(pr, pipeline), sizes: newSizes(), budget: newBudget()}
	v.sizes.lazy = true
	v.sizes.putTexts(v.contexts)
	given := map[string]bool{}
	for _, p := range pr.Spec.Params {
		given[p.Name] = true
		v.put(p.Name, p.Value)
	}
	var defaults v1.Params
	for _, declared := range pipeline.Spec.Params {
		if declared.Default != nil && !given[declared.Name] {
			defaults = append(defaults, v1.Param{Name: declared.Name, Value: *declared.Default.DeepCopy()})
		}
	}
	v.putDefaults(defaults)
	return v
}

func (v *variables) put(name string, value v1.ParamValue) {
	if v.sizes.put(name, value); v.sizes.err != nil {
		return
	}
	for _, notation := range notations {
		v.replacements.put(fmt.Sprintf(notation, name), value, dotted)
	}
}

// putDefaults adds each default after the defaults that it refers to. Lists and
// objects may refer to texts, and texts to each other. A default that refers to an
// unknown parameter is left out: Tekton does not start such a run.
func (v *variables) putDefaults(defaults v1.Params) {
	for _, texts := range []bool{true, false} {
		for progress := true; progress; {
			progress = false
			var unknown v1.Params
			for _, p := range defaults {
				if (p.Value.Type == v1.ParamTypeString) != texts || !v.knows(p) {
					unknown = append(unknown, p)
					continue
				}
				if v.budget.allow(v.sizes, p.Value) != nil {
					return
				}
				v.put(p.Name, *replaced(v.texts, nil, nil)(&p.Value))
				progress = true
			}
			defaults = unknown
		}
	}
}

// knows reports whether the value of each parameter is known that the default
// refers to.
func (v *variables) knows(p v1.Param) bool {
	search := newSizes()
	search.cost = costOfSearch
	if v.budget.allow(search, p.Value) != nil {
		return false
	}
	references, _ := p.GetVarSubstitutionExpressions()
	for _, reference := range references {
		if _, known := v.texts[reference]; !known && strings.HasPrefix(reference, "params.") {
			return false
		}
	}
	return true
}

// withTaskParams returns the variables in a spec that a task of the Pipeline
// carries itself. A value that the task gives for a parameter takes precedence
// over the value that the run gives.
func (v variables) withTaskParams(given v1.Params) variables {
	scoped := v
	scoped.texts, scoped.lists, scoped.objects = maps.Clone(v.texts), maps.Clone(v.lists), maps.Clone(v.objects)
	scoped.sizes = v.sizes.clone()
	scoped.sizes.cost = len(v.texts) // of the clones
	if v.budget.allow(scoped.sizes, given) != nil {
		return v
	}
	scoped.sizes.cost = 0
	for _, p := range given.DeepCopy() {
		replaced(v.texts, v.lists, v.objects)(&p.Value)
		scoped.sizes.put(p.Name, p.Value)
		for _, notation := range notations {
			key := fmt.Sprintf(notation, p.Name)
			if _, known := v.texts[key]; known {
				scoped.texts[key] = p.Value.StringVal
			}
			if _, known := v.lists[key]; known {
				scoped.lists[key] = p.Value.ArrayVal
			}
			if _, known := v.objects[key]; known {
				scoped.objects[key] = p.Value.ObjectVal
				for property, text := range p.Value.ObjectVal {
					scoped.texts[key+"."+property] = text
				}
			}
		}
	}
	return scoped
}

// value returns the value that a text becomes: a text, or the whole list or object
// that the text refers to.
func (v variables) value(text string) *v1.ParamValue {
	value := v1.NewStructuredValues(text)
	if !hasReference(text) {
		return value
	}
	for range v.rounds {
		next, err := inSteps(value, func(value *v1.ParamValue) error { return v.budget.allow(v.sizes, value) },
			replaced(v.texts, v.lists, v.objects), replaced(v.contexts, nil, nil))
		if err != nil {
			break
		}
		value = next
	}
	return value
}

// replaced returns a function that substitutes in a value, only in texts with a
// reference: each call of Tekton's functions looks at all variables.
func replaced(texts map[string]string, lists map[string][]string, objects map[string]map[string]string) func(*v1.ParamValue) *v1.ParamValue {
	return func(value *v1.ParamValue) *v1.ParamValue {
		switch value.Type {
		case v1.ParamTypeArray:
			value.ArrayVal = each(func(element string) []string { return substitution.ApplyArrayReplacements(element, texts, lists) })(value.ArrayVal)
		case v1.ParamTypeObject:
			value.ObjectVal = maps.Clone(value.ObjectVal)
			for property, text := range value.ObjectVal {
				if hasReference(text) {
					value.ObjectVal[property] = substitution.ApplyReplacements(text, texts)
				}
			}
		case v1.ParamTypeString:
			fallthrough
		default:
			if hasReference(value.StringVal) {
				value.ApplyReplacements(texts, lists, objects)
			}
		}
		return value
	}
}

// elements returns the elements that one element of a list becomes.
func (v variables) elements(text string) []string {
	elements := []string{text}
	if !hasReference(text) {
		return elements
	}
	for range v.rounds {
		next, err := inSteps(elements, func(elements []string) error { return v.budget.allow(v.sizes, elements) },
			each(func(element string) []string { return substitution.ApplyArrayReplacements(element, v.texts, v.lists) }),
			each(func(element string) []string { return []string{substitution.ApplyReplacements(element, v.contexts)} }))
		if err != nil {
			break
		}
		elements = next
	}
	return elements
}

// each returns a function that puts what an element becomes in place of each element.
func each(become func(string) []string) func([]string) []string {
	return func(elements []string) []string {
		next := make([]string, 0, len(elements))
		for _, element := range elements {
			if hasReference(element) {
				next = append(next, become(element)...)
			} else {
				next = append(next, element)
			}
		}
		return next
	}
}

// hasReference reports whether a text may refer to a variable.
func hasReference(text string) bool { return strings.Contains(text, "$(") }

// contexts returns the values of the variables that are not parameters.
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
