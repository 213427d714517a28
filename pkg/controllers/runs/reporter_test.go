// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"context"
	"errors"
	"testing"

	"github.com/tektoncd/chains/pkg/chains/objects"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
	"github.com/trusted-resources/chains-extension/pkg/verification"
)

func TestReporter_ReportsNothingBeforeItIsStarted(t *testing.T) {
	if _, wanted := (&Reporter{}).Report(t.Context(), "run"); wanted {
		t.Error("a report is wanted before a controller was constructed")
	}
}

// Without the rights to read policies, an attestation is one of a stock Chains.
func TestReporter_ReportsNothingWithoutRights(t *testing.T) {
	r := &Reporter{}
	r.Start(Inputs{
		Config: func() *config.Config { return &config.Config{Provenance: true} }, Ready: func() bool { return false },
	})
	if report, wanted := r.Report(t.Context(), objects.NewTaskRunObjectV1(&v1.TaskRun{})); wanted {
		t.Errorf("got %+v, want no report", report)
	}
}

// The author of a run cannot make the verification status disappear from the
// attestation by input on which the verification panics.
func TestReporter_ClaimsNothingAfterPanic(t *testing.T) {
	meta := metav1.ObjectMeta{Namespace: "ns", Name: "run"}
	taskRun := &v1.TaskRun{ObjectMeta: meta, Spec: v1.TaskRunSpec{TaskRef: &v1.TaskRef{Name: "build"}}}
	pipelineRun := &v1.PipelineRun{ObjectMeta: meta, Spec: v1.PipelineRunSpec{PipelineRef: &v1.PipelineRef{Name: "build"}}}
	for kind, run := range map[resource.Kind]any{
		resource.Task: objects.NewTaskRunObjectV1(taskRun), resource.Pipeline: objects.NewPipelineRunObjectV1(pipelineRun),
	} {
		var emitted withContext
		r := &Reporter{}
		r.Start(Inputs{ // its collector has nothing to read objects with
			Config: func() *config.Config { return &config.Config{Provenance: true} }, Ready: func() bool { return true },
			Verifier: &verification.Verifier{
				Keys: ownKeys(func() *keys.Ring { return &keys.Ring{} }), Dialect: func() tekton.Dialect { return tekton.Newest }, Clock: clock.RealClock{},
			},
			Emitter: &emitted,
		})
		report, wanted := r.Report(withHandover(t.Context(), &chainsconfig.Config{}, newSigner(t)), run)
		if !wanted || len(report.Records) != 1 || report.Result() != policy.Skipped {
			t.Fatalf("%s: got %+v, wanted: %v", kind, report, wanted)
		}
		if got := report.Records[0]; got.Reason != policy.ContentUnavailable || got.Kind != kind || got.Name != "run" {
			t.Errorf("%s: got record %+v", kind, got)
		}
		if emitted.ctx.Value(handoverKey{}) != nil {
			t.Error("the verification, which resolves references of policies, has the signer of the run")
		}
		if f, ok := emitted.facts[0].(observe.NotVerified); !ok || !errors.Is(f.Err, observe.ErrPanicked) || f.Run.Name != "run" {
			t.Errorf("%s: emitted %+v", kind, emitted.facts)
		}
	}
}

// withContext keeps the context of the last fact, too.
type withContext struct {
	facts

	ctx context.Context
}

func (w *withContext) Emit(ctx context.Context, fact observe.Fact) {
	w.ctx = ctx
	w.facts.Emit(ctx, fact)
}
