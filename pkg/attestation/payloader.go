// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"context"
	"slices"

	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/tektoncd/chains/pkg/chains/formats"
	"github.com/tektoncd/chains/pkg/chains/formats/slsa/v2alpha3"
	"github.com/tektoncd/chains/pkg/chains/formats/slsa/v2alpha4"
	"github.com/tektoncd/chains/pkg/chains/objects"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"go.uber.org/zap"
	"knative.dev/pkg/logging"
)

// Formats are the formats of Chains that can carry the verification status.
var Formats = map[chainsconfig.PayloadType]formats.PayloaderInit{
	formats.PayloadTypeSlsav2alpha3: v2alpha3.NewFormatter,
	formats.PayloadTypeSlsav2alpha4: v2alpha4.NewFormatter,
}

// ReportFunc returns the report on a run of Chains (*objects.TaskRunObjectV1 or
// *objects.PipelineRunObjectV1). wanted is false if the attestation of the run is
// to be that of Chains alone.
type ReportFunc func(ctx context.Context, run any) (report Report, wanted bool)

// Register makes Chains write the verification status into its attestations. It
// replaces the registered payloaders of Formats: Chains refuses the names of
// formats that it does not know. Call it once, before a controller of Chains
// starts: Chains' registry has no lock.
func Register(report ReportFunc) {
	for format, original := range Formats {
		formats.RegisterPayloader(format, func(cfg chainsconfig.Config) (formats.Payloader, error) {
			payloader, err := original(cfg)
			if err != nil {
				return nil, err
			}
			return annotatingPayloader{payloader, report}, nil
		})
	}
}

// annotatingPayloader is a payloader of Chains that adds the verification status
// to each statement.
type annotatingPayloader struct {
	formats.Payloader
	report ReportFunc
}

// CreatePayload implements formats.Payloader. A problem with the verification
// status is logged, not returned: after an error, Chains marks the run as signed
// without an attestation. A panic is not recovered here, where the statement may be
// half changed: the caller ends the reconcile, and the run is signed later.
func (p annotatingPayloader) CreatePayload(ctx context.Context, run any) (any, error) {
	report, wanted := p.report(ctx, run)
	if !wanted {
		return p.Payloader.CreatePayload(ctx, run)
	}
	payload, err := p.Payloader.CreatePayload(ctx, withoutUnstartedSteps(run))
	if err != nil {
		return payload, err
	}
	annotated, err := Annotate(statementOf(payload), report)
	if err != nil {
		logging.FromContext(ctx).Errorw("The attestation is made without the verification status", zap.Error(err))
		return payload, nil
	}
	return annotated, nil
}

// withoutUnstartedSteps returns the run without the steps of TaskRuns of which no
// container started, because Tekton or the gate refused them. Tekton lists the steps of
// such a TaskRun without an image, and Chains then makes no attestation.
func withoutUnstartedSteps(run any) any {
	switch run := run.(type) {
	case *objects.TaskRunObjectV1:
		return objects.NewTaskRunObjectV1(taskRunWithoutUnstartedSteps(run.TaskRun))
	case *objects.PipelineRunObjectV1:
		copied := objects.NewPipelineRunObjectV1(run.PipelineRun)
		for _, tr := range run.GetTaskRuns() {
			copied.AppendTaskRun(taskRunWithoutUnstartedSteps(tr))
		}
		return copied
	}
	return run
}

func taskRunWithoutUnstartedSteps(tr *v1.TaskRun) *v1.TaskRun {
	hasImage := func(step v1.StepState) bool { return step.ImageID != "" }
	if slices.ContainsFunc(tr.Status.Steps, hasImage) || len(tr.Status.Steps) == 0 {
		return tr
	}
	tr = tr.DeepCopy()
	tr.Status.Steps = nil
	return tr
}

// statementOf returns the statement in a payload, nil if there is none.
func statementOf(payload any) *intoto.Statement {
	switch statement := payload.(type) {
	case *intoto.Statement:
		return statement
	case intoto.Statement: // Chains returns some statements by value
		return &statement
	}
	return nil
}
