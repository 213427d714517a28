// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"context"
	"errors"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

var errRefused = errors.New("connection refused")

// unreadable returns an error for each object of one kind.
type unreadable struct {
	Objects
	kind resource.Kind
}

func (u unreadable) Object(ctx context.Context, kind resource.Kind, namespace, name string) (resource.Object, error) {
	if kind == u.kind {
		return nil, errRefused
	}
	return u.Objects.Object(ctx, kind, namespace, name)
}

// countedObjects counts the reads of each object.
type countedObjects struct {
	Objects
	reads map[objectKey]int
}

func (c countedObjects) Object(ctx context.Context, kind resource.Kind, namespace, name string) (resource.Object, error) {
	c.reads[objectKey{kind, namespace, name}]++
	return c.Objects.Object(ctx, kind, namespace, name)
}

// A read that failed does not mean that the object was deleted.
func TestCollect_ReportsErrorOfFailedRead(t *testing.T) {
	build := task("build", "", referring(v1.Step{Name: "a", Ref: &v1.Ref{Name: "compile"}}))
	p := pipeline("p", v1.PipelineTask{Name: "a"})
	w := newTestCluster(t)
	w.objects.put(stepAction("compile", "cc"), p)
	tr, pr := w.ran(localRun(), build), recorded(t, p, nil)
	for kind, collect := range map[resource.Kind]func() Dependency{
		resource.Task:       func() Dependency { return w.CollectTaskRun(t.Context(), tr)[0] },
		resource.StepAction: func() Dependency { return w.CollectTaskRun(t.Context(), tr)[1] },
		resource.Pipeline:   func() Dependency { return w.CollectPipelineRun(t.Context(), pr, nil)[0] },
	} {
		w.Objects = w.objects
		if got := collect(); got.Content == nil {
			t.Errorf("%s, before: %s", kind, got.Unavailable)
		}
		w.Objects = unreadable{w.objects, kind}
		lacks(t, collect(), policy.ContentUnavailable, "cannot be read: "+errRefused.Error())
	}
}

// The unsigned content may have been signed later: without the object in the cluster
// it is not known.
func TestCandidates_FailedReadOfUnsignedObject(t *testing.T) {
	unsigned, signed := task("build", "make"), sign(task("build", "make"), "own")
	for name, tc := range map[string]struct {
		content *v1.Task
		stored  string
		want    []string
	}{
		"content has a signature":  {signed, "", []string{"own"}},
		"registry has a signature": {unsigned, "stored", []string{"", "stored"}},
		"no signature":             {unsigned, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			w, tr := newTestCluster(t), resolvedRun("git", gitSource)
			w.answered(tr, tc.content)
			w.stored = map[string]string{digestOf(t, tc.content): tc.stored}
			w.Objects = unreadable{w.objects, resource.Task}
			if got := w.one(tr); tc.want == nil {
				lacks(t, got, policy.SignatureUnavailable, errRefused.Error())
			} else {
				has(t, got, tc.content, tc.want...)
			}
		})
	}
}

// A Task that cannot be read is not a Task that was deleted.
func TestCollectTaskRun_ReportsErrorOfReadBehindRecordedChecksum(t *testing.T) {
	build := sign(task("build", "make"), "own")
	w, tr := newTestCluster(t), resolvedRun("cluster", clusterSource(t, build))
	w.stored = map[string]string{digestOf(t, build): "stored"}
	w.Objects = unreadable{w.objects, resource.Task}
	got := w.CollectTaskRun(t.Context(), tr)
	has(t, got[0], build, "", "stored")
	lacks(t, got[1], policy.ContentUnavailable, "cannot be read ("+errRefused.Error()+")")
}

func TestCollect_ReadsEachObjectOnce(t *testing.T) {
	w := newTestCluster(t)
	build := task("build", "", referring(v1.Step{Name: "a", Ref: &v1.Ref{Name: "compile"}}, v1.Step{Name: "b", Ref: &v1.Ref{Name: "compile"}}))
	p := pipeline("p", v1.PipelineTask{Name: "a", TaskRef: &v1.TaskRef{Name: "build"}}, v1.PipelineTask{Name: "b", TaskRef: &v1.TaskRef{Name: "build"}})
	w.objects.put(stepAction("compile", "cc"), p)
	pr := recorded(t, p, nil)
	withChildren("a", "b")(pr)
	first := w.ran(localRun(named("run-a"), controlledBy(pr)), build)
	second := w.ran(localRun(named("run-b"), controlledBy(pr)), build)
	counted := countedObjects{w.objects, map[objectKey]int{}}
	w.Objects = counted
	for _, d := range w.CollectPipelineRun(t.Context(), pr, []*v1.TaskRun{first, second}) {
		if d.Content == nil {
			t.Errorf("%s %s: %s", d.Kind, d.Name, d.Unavailable)
		}
	}
	if len(counted.reads) != len(resource.Kinds) {
		t.Errorf("got reads of %v, want one object of each kind", counted.reads)
	}
	for object, reads := range counted.reads {
		if reads != 1 {
			t.Errorf("%v was read %d times", object, reads)
		}
	}
}

func TestPolicyResource_HasContentOrReason(t *testing.T) {
	known := Dependency{
		Source: gitSource, NoMatch: policy.Warn,
		Content: &Content{Checksum: []byte("checksum"), Signatures: []string{"own"}},
	}
	got := known.PolicyResource()
	if string(got.Checksum) != "checksum" || len(got.Signatures) != 1 || got.Source != gitSource.URI || got.NoMatch != policy.Warn || got.Unavailable.Reason != "" {
		t.Errorf("known content: got %+v", got)
	}
	unknown := Dependency{Unavailable: policy.Unavailable{Reason: policy.Inline, Message: "why"}}
	if got := unknown.PolicyResource(); got.Unavailable != unknown.Unavailable || got.Checksum != nil {
		t.Errorf("unknown content: got %+v", got)
	}
}
