// SPDX-License-Identifier: Apache-2.0

package verification_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	pipelineapi "github.com/tektoncd/pipeline/pkg/apis/pipeline"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/attestation"
	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/gate"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
	"github.com/trusted-resources/chains-extension/pkg/verification"
)

const good = "Z29vZA==" // the signature that the policy of the test accepts

// world is a PipelineRun with its TaskRuns, and the resources behind them.
type world struct {
	objects  map[string]resource.Object
	changed  map[string]bool // resources that were written to after the run began
	replaced map[types.UID]bool
	pr       *v1.PipelineRun
	taskRuns []*v1.TaskRun
}

// newWorld makes a world in which each resource may be unsigned or changed, and each
// TaskRun may be another than its task asks for.
func newWorld(ctx context.Context, random *rand.Rand) *world {
	w := &world{objects: map[string]resource.Object{}, changed: map[string]bool{}, replaced: map[types.UID]bool{}}
	rarely := func() bool { return random.IntN(12) == 0 }
	put := func(object resource.Object, name string) {
		object.SetDefaults(ctx)
		if !rarely() {
			object.SetAnnotations(map[string]string{trustedresources.SignatureAnnotation: good})
		}
		w.objects[name], w.changed[name] = object, rarely()
	}
	pipeline := &v1.Pipeline{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pipeline"}}
	w.pr = &v1.PipelineRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "run", UID: "run"},
		Spec:       v1.PipelineRunSpec{PipelineRef: &v1.PipelineRef{Name: "pipeline"}},
	}
	for i := range 1 + random.IntN(4) {
		name := fmt.Sprintf("task-%d", i)
		task := &v1.Task{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
			Spec:       v1.TaskSpec{Steps: []v1.Step{{Name: "s", Image: "alpine", Script: "echo " + name}}},
		}
		put(task, name)
		asked := v1.PipelineTask{Name: name, TaskRef: &v1.TaskRef{Name: name, Kind: v1.NamespacedTaskKind}}
		tr := &v1.TaskRun{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "run-" + name, UID: types.UID(name), OwnerReferences: []metav1.OwnerReference{
			*metav1.NewControllerRef(w.pr, v1.SchemeGroupVersion.WithKind(pipelineapi.PipelineRunControllerName)),
		}}}
		tr.Spec.TaskRef = asked.TaskRef.DeepCopy()
		if random.IntN(4) == 0 { // a part of the Pipeline
			asked.TaskRef, tr.Spec.TaskRef = nil, nil
			asked.TaskSpec = &v1.EmbeddedTask{TaskSpec: *task.Spec.DeepCopy()}
			tr.Spec.TaskSpec = task.Spec.DeepCopy()
		}
		if rarely() {
			tr.Spec.Params = v1.Params{{Name: "odd", Value: *v1.NewStructuredValues("odd")}}
		}
		if rarely() {
			tr.OwnerReferences = nil
		}
		w.replaced[tr.UID] = rarely()
		tr.Status.TaskSpec, tr.Status.PodName = task.Spec.DeepCopy(), tr.Name+"-pod"
		pipeline.Spec.Tasks = append(pipeline.Spec.Tasks, asked)
		w.taskRuns = append(w.taskRuns, tr)
		w.pr.Status.ChildReferences = append(w.pr.Status.ChildReferences, v1.ChildStatusReference{
			TypeMeta: runtime.TypeMeta{Kind: pipelineapi.TaskRunControllerName}, Name: tr.Name, PipelineTaskName: name,
		})
	}
	put(pipeline, "pipeline")
	w.pr.Status.PipelineSpec = pipeline.Spec.DeepCopy()
	return w
}

func (w *world) Object(_ context.Context, _ resource.Kind, _, name string) (resource.Object, error) {
	return w.objects[name], nil
}

func (w *world) CreatedAfter(_, object metav1.Object) bool { return !w.changed[object.GetName()] }

func (w *world) IsFirstChild(_, child metav1.Object) bool { return !w.replaced[child.GetUID()] }

func (*world) Signature(context.Context, resource.Kind, string, string, []byte) (string, error) {
	return "", nil
}

func (*world) Namespace(string) (string, bool) { return "", false }

func (*world) Signer([]byte, []byte) (string, bool) { return "", false }

func (*world) Revoked(string) bool { return false }

func (*world) Verify(_ context.Context, _ string, in policy.Input) (policy.Verdict, error) {
	outcome := policy.Outcome{Policy: "p", Mode: policy.Enforce, Result: policy.Passed}
	if in.Signature != good {
		outcome.Result, outcome.Reason = policy.Failed, policy.Unsigned
	}
	return policy.Verdict{Outcome: outcome, Policies: []policy.Outcome{outcome}}, nil
}

func (w *world) verifier() *verification.Verifier {
	return &verification.Verifier{
		Collector:      dependencies.Collector{Objects: w, Creations: w, Stored: w, Repositories: w},
		ChildCreations: w, Policies: w, Keys: w, Dialect: func() tekton.Dialect { return tekton.Newest }, Clock: clock.RealClock{},
	}
}

// The gate releases all TaskRuns of a PipelineRun exactly if the attestation passes. Each
// record that the gate has of a Pipeline or a Task is one of the attestation.
func TestChild_AgreesWithPipelineRun(t *testing.T) {
	const worlds = 3000
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // needs to be repeatable
	passed := 0
	for i := range worlds {
		w := newWorld(t.Context(), random)
		v := w.verifier()
		attested := v.PipelineRun(t.Context(), w.pr, w.taskRuns)
		released := true
		for _, tr := range w.taskRuns {
			records := v.Child(t.Context(), w.pr, w.taskRuns, tr)
			decision := gate.Decide(records, nil, config.Default().Gate)
			released = released && decision.Action == gate.Release
			for _, record := range records {
				same := func(other attestation.Record) bool { return reflect.DeepEqual(record, other) }
				if record.Content != nil && !slices.ContainsFunc(attested, same) {
					t.Fatalf("world %d: the gate has a record that the attestation has not: %+v", i, record)
				}
			}
		}
		result := attestation.NewReport(attested, nil, time.Time{}).Result()
		if released != (result == policy.Passed) {
			t.Fatalf("world %d: all TaskRuns released: %v, result of the attestation: %s\n%+v", i, released, result, attested)
		}
		if released {
			passed++
		}
	}
	if passed < worlds/20 || passed > worlds*19/20 {
		t.Errorf("%d of %d worlds passed: too few of one sort", passed, worlds)
	}
}

// The same for a TaskRun that no PipelineRun controls.
func TestTaskRun_AgreesWithAttestation(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // needs to be repeatable
	for range 500 {
		w := newWorld(t.Context(), random)
		records := w.verifier().TaskRun(t.Context(), w.taskRuns[0])
		decision := gate.Decide(records, nil, config.Default().Gate)
		result := attestation.NewReport(records, nil, time.Time{}).Result()
		if (decision.Action == gate.Release) != (result == policy.Passed) {
			t.Fatalf("decision %+v, result of the attestation %s", decision, result)
		}
	}
}
