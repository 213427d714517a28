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

func TestUnchangedSince(t *testing.T) {
	finalized := func(run *v1.TaskRun) { run.Finalizers = []string{taskRunFinalizer} }
	started := func(run *v1.TaskRun) { run.Status.StartTime = &metav1.Time{} }
	created := taskRun("100")
	for name, tc := range map[string]struct {
		seen   []any
		object string // its resourceVersion
		want   bool
	}{
		"written to before":         {[]any{created}, "99", true},
		"long before":               {[]any{created}, "9", true},
		"written to since":          {[]any{created}, "101", false},
		"numbers, not texts":        {[]any{created}, "1000", false},
		"seen again later":          {[]any{created, taskRun("150", finalized), taskRun("200", started)}, "120", false},
		"never seen":                {nil, "99", false},
		"first seen with a status":  {[]any{taskRun("100", started)}, "99", false},
		"first seen when finalized": {[]any{taskRun("100", finalized)}, "99", false},
		"no number":                 {[]any{created}, "abc", false},
		"a tombstone":               {[]any{struct{}{}}, "99", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSightings()
			for _, item := range tc.seen {
				s.see(item)
			}
			object := &v1.Task{ObjectMeta: metav1.ObjectMeta{ResourceVersion: tc.object}}
			if got := s.UnchangedSince(taskRun("300"), object); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestPipelineRunsAreSeenToo(t *testing.T) {
	s := newSightings()
	run := &v1.PipelineRun{ObjectMeta: metav1.ObjectMeta{UID: "uid", ResourceVersion: "100"}}
	s.see(run)
	if !s.UnchangedSince(run, &v1.Task{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "99"}}) {
		t.Error("not seen")
	}
}
