// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
)

// eachMutation calls check with the node changed in one place, for each place.
func eachMutation(node any, path string, set func(any), check func(what string)) {
	switch node := node.(type) {
	case string:
		for _, another := range []string{node + "x", ""} {
			if another != node {
				set(another)
				check(fmt.Sprintf("%s = %q", path, another))
			}
		}
	case json.Number:
		set(json.Number(map[bool]string{true: "7", false: string(node) + "1"}[node == "0"]))
		check(path + " another number")
	case bool:
		set(!node)
		check(path + " negated")
	case []any:
		for i := range node {
			eachMutation(node[i], fmt.Sprintf("%s[%d]", path, i), func(value any) { node[i] = value }, check)
		}
		if len(node) > 0 {
			set(append(slices.Clip(node), node[0]))
			check(path + " longer")
			set(node[1:])
			check(path + " shorter")
		}
	case map[string]any:
		for key, value := range node {
			eachMutation(value, path+"."+key, func(value any) { node[key] = value }, check)
			delete(node, key)
			check(path + " without " + key)
			node[key] = value
		}
	}
	set(node)
}

// eachMutated calls check with each spec that differs from the given one in one
// place, and still differs after it was decoded.
func eachMutated[Spec any](t *testing.T, spec *Spec, check func(what string, mutated *Spec)) {
	t.Helper()
	root := must(tree(spec))
	original := string(must(json.Marshal(spec)))
	eachMutation(root, "", func(value any) { root = value }, func(what string) {
		mutated := new(Spec)
		if json.Unmarshal(must(json.Marshal(root)), mutated) != nil {
			return // such a spec cannot be stored
		}
		data, err := json.Marshal(mutated)
		if err == nil && string(data) != original {
			check(what, mutated)
		}
	})
}

func TestReplaysTask_RejectsEachChangeOfExamples(t *testing.T) {
	t.Parallel()
	count := 0
	for _, e := range examples(t) {
		for _, task := range e.tasks {
			if slices.ContainsFunc(task.Spec.Steps, func(s v1.Step) bool { return s.Ref != nil }) {
				continue // the record does not show parameters that a StepAction does not use
			}
			w, tr := e.runTask(t, task, true)
			eachMutated(t, &task.Spec, func(what string, mutated *v1.TaskSpec) {
				count++
				another := &v1.Task{ObjectMeta: task.ObjectMeta, Spec: *mutated}
				another.SetDefaults(t.Context())
				if digestOf(t, another) == digestOf(t, task) {
					return // a default value
				}
				if err := w.collection(w.objectsOnce(), tr, tr.UID).replaysTask(t.Context(), tr, another); err == nil {
					t.Errorf("%s: Task %s with %s is taken for what ran", e.file, task.Name, what)
				}
			})
		}
	}
	t.Logf("%d changes", count)
}

func TestReplaysPipeline_RejectsEachChangeOfExamples(t *testing.T) {
	t.Parallel()
	count := 0
	for _, e := range append(examples(t), example{file: "all substitutions", pipelines: []*v1.Pipeline{everySubstitution()}}) {
		for _, pipeline := range e.pipelines {
			_, pr := e.runPipeline(t, pipeline, true)
			eachMutated(t, &pipeline.Spec, func(what string, mutated *v1.PipelineSpec) {
				count++
				another := &v1.Pipeline{ObjectMeta: pipeline.ObjectMeta, Spec: *mutated}
				another.SetDefaults(t.Context())
				if digestOf(t, another) == digestOf(t, pipeline) {
					return // a default value
				}
				if err := replaysPipeline(t.Context(), pr, another); err == nil {
					t.Errorf("%s: Pipeline %s with %s is taken for what ran", e.file, pipeline.Name, what)
				}
			})
		}
	}
	t.Logf("%d changes", count)
}
