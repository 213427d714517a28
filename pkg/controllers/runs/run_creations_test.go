// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"strconv"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
			c := newRunCreations(NewSignatureWrites())
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
	c := newRunCreations(NewSignatureWrites())
	run := &v1.PipelineRun{ObjectMeta: metav1.ObjectMeta{UID: "uid", ResourceVersion: "100"}}
	c.observe(run)
	if !c.CreatedAfter(run, &v1.Task{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "99"}}) {
		t.Error("the creation was not recorded")
	}
}

func TestIsFirstChild_KnowsTheFirstTaskRunOfEachName(t *testing.T) {
	parent := &v1.PipelineRun{ObjectMeta: metav1.ObjectMeta{Name: "pr", UID: "parent", ResourceVersion: "100"}}
	parentLater := parent.DeepCopy()
	parentLater.Finalizers, parentLater.ResourceVersion = []string{pipelineRunFinalizer}, "150"
	owned := func(run *v1.TaskRun) {
		controls := true
		run.OwnerReferences = []metav1.OwnerReference{{Kind: "PipelineRun", Name: "pr", UID: "parent", Controller: &controls}}
	}
	uid := func(value types.UID) func(*v1.TaskRun) { return func(run *v1.TaskRun) { run.UID = value } }
	started := func(run *v1.TaskRun) { run.Status.StartTime = &metav1.Time{} }
	child := taskRun("110", owned)
	for name, tc := range map[string]struct {
		seen []any
		want bool
	}{
		"first":                              {[]any{parent, child, taskRun("120", owned, started)}, true},
		"arrives before its parent":          {[]any{child, parent}, true},
		"beside another name":                {[]any{parent, child, taskRun("111", owned, uid("other"), func(run *v1.TaskRun) { run.Name = "other" })}, true},
		"in the place of another":            {[]any{parent, taskRun("105", owned, uid("first")), child}, false},
		"seen without its creation":          {[]any{parent, taskRun("110", owned, started)}, false},
		"created before its parent":          {[]any{parent, taskRun("90"), taskRun("120", owned, started)}, false},
		"parent seen without its creation":   {[]any{parentLater, child}, false},
		"parent was not seen":                {[]any{child}, false},
		"never controlled by the parent":     {[]any{parent, taskRun("110")}, false},
		"controlled by another PipelineRun":  {[]any{parent, taskRun("110", owned, func(run *v1.TaskRun) { run.OwnerReferences[0].UID = "another" })}, false},
		"owned by the parent, no controller": {[]any{parent, taskRun("110", owned, func(run *v1.TaskRun) { run.OwnerReferences[0].Controller = nil })}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := newRunCreations(NewSignatureWrites())
			for _, item := range tc.seen {
				c.observe(item)
			}
			if got := c.IsFirstChild(parent, child); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// Whoever creates many runs must not make the controller forget a TaskRun, and take
// a second one of its name for the first.
func TestIsFirstChild_IsFalseAfterTheParentWasForgotten(t *testing.T) {
	c := newRunCreations(NewSignatureWrites())
	parent := &v1.PipelineRun{ObjectMeta: metav1.ObjectMeta{Name: "pr", UID: "parent", ResourceVersion: "100"}}
	controls := true
	child := taskRun("110", func(run *v1.TaskRun) {
		run.OwnerReferences = []metav1.OwnerReference{{Kind: "PipelineRun", Name: "pr", UID: "parent", Controller: &controls}}
	})
	c.observe(parent)
	c.observe(child)
	for i := range maxCreationBytes/creationBytes + 1 {
		c.observe(taskRun("200", func(run *v1.TaskRun) { run.UID = types.UID(strconv.Itoa(i)) }))
	}
	second := child.DeepCopy()
	second.UID, second.ResourceVersion = "second", "300"
	c.observe(second)
	if c.IsFirstChild(parent, child) || c.IsFirstChild(parent, second) {
		t.Error("a TaskRun of a forgotten PipelineRun counts")
	}
}

// After a restart, the gate believes what the API server recorded about TaskRuns. The
// attestation does not.
func TestChildCreations_KnowWhatOutlivesARestart(t *testing.T) {
	const fresh, old = "100", "1"
	began := func(object metav1.Object, seconds int64) { object.SetCreationTimestamp(metav1.Unix(seconds, 0)) }
	parent := &v1.PipelineRun{ObjectMeta: metav1.ObjectMeta{Name: "pr", UID: "pr", ResourceVersion: "50"}}
	began(parent, 10)
	child := func(uid types.UID, version string, started bool, seconds int64) *v1.TaskRun {
		tr := taskRun(version, func(run *v1.TaskRun) {
			run.Name, run.UID = "pr-build", uid
			run.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(parent, v1.SchemeGroupVersion.WithKind("PipelineRun"))}
			if started {
				run.Status.StartTime = &metav1.Time{}
			}
		})
		began(tr, seconds)
		return tr
	}
	startedParent := parent.DeepCopy()
	startedParent.Status.StartTime = &metav1.Time{}
	for name, tc := range map[string]struct {
		seen        []any
		asked       *v1.TaskRun
		gate, other bool
	}{
		"both seen":                         {[]any{parent, child("a", fresh, false, 11)}, child("a", "300", true, 11), true, true},
		"restarted":                         {[]any{startedParent, child("a", fresh, true, 11)}, child("a", fresh, true, 11), true, false},
		"restarted, in the same second":     {[]any{startedParent, child("a", fresh, true, 10)}, child("a", fresh, true, 10), true, false},
		"restarted, older than its parent":  {[]any{startedParent, child("a", fresh, true, 9)}, child("a", fresh, true, 9), false, false},
		"restarted, another one before":     {[]any{startedParent, child("a", fresh, true, 11), child("b", "200", true, 12)}, child("b", "200", true, 12), false, false},
		"both seen, older than its parent":  {[]any{parent, child("a", old, false, 11)}, child("a", old, false, 11), false, false},
		"both seen, another one before":     {[]any{parent, child("a", fresh, false, 11), child("b", "200", false, 12)}, child("b", "200", false, 12), false, false},
		"never seen":                        {[]any{parent}, child("a", fresh, false, 11), false, false},
		"without the time of its creation":  {[]any{startedParent, child("a", fresh, true, 11)}, taskRun(fresh), false, false},
		"watch was interrupted at creation": {[]any{parent, child("a", fresh, true, 11)}, child("a", fresh, true, 11), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := newRunCreations(NewSignatureWrites())
			for _, item := range tc.seen {
				c.observe(item)
			}
			if got := (childCreations{c}).IsFirstChild(parent, tc.asked); got != tc.gate {
				t.Errorf("the gate: got %v, want %v", got, tc.gate)
			}
			if got := c.IsFirstChild(parent, tc.asked); got != tc.other {
				t.Errorf("the attestation: got %v, want %v", got, tc.other)
			}
		})
	}
}
