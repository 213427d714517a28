// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func taskRun(version string, modifiers ...func(*v1.TaskRun)) *v1.TaskRun {
	run := &v1.TaskRun{ObjectMeta: metav1.ObjectMeta{Name: "run", UID: "run-uid", ResourceVersion: version}}
	for _, modify := range modifiers {
		modify(run)
	}
	return run
}

func TestCreatedAfter_ComparesWithTheCreationThatWasSeen(t *testing.T) {
	finalized := func(run *v1.TaskRun) { run.Finalizers = []string{taskRunFinalizer} }
	started := func(run *v1.TaskRun) { run.Status.StartTime = &metav1.Time{} }
	created := taskRun("100")
	for name, tc := range map[string]struct {
		seen   []any
		object string // its resourceVersion
		want   bool
	}{
		"object written before":          {[]any{created}, "99", true},
		"object written long before":     {[]any{created}, "9", true},
		"object written later":           {[]any{created}, "101", false},
		"compared as numbers":            {[]any{created}, "1000", false},
		"run seen again later":           {[]any{created, taskRun("150", finalized), taskRun("200", started)}, "120", false},
		"run never seen":                 {nil, "99", false},
		"run first seen with a status":   {[]any{taskRun("100", started)}, "99", false},
		"run first seen with finalizer":  {[]any{taskRun("100", finalized)}, "99", false},
		"object version is not a number": {[]any{created}, "abc", false},
		"tombstone":                      {[]any{struct{}{}}, "99", false},
	} {
		t.Run(name, func(t *testing.T) {
			c := newRunCreations()
			for _, item := range tc.seen {
				c.observe(item)
			}
			object := &v1.Task{ObjectMeta: metav1.ObjectMeta{ResourceVersion: tc.object}}
			if got := c.CreatedAfter(taskRun("300"), object); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestCreatedAfter_KnowsPipelineRuns(t *testing.T) {
	c := newRunCreations()
	run := &v1.PipelineRun{ObjectMeta: metav1.ObjectMeta{UID: "uid", ResourceVersion: "100"}}
	c.observe(run)
	if !c.CreatedAfter(run, &v1.Task{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "99"}}) {
		t.Error("the creation was not recorded")
	}
}
