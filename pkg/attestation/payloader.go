package attestation

import (
	"context"

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

// Formats are the formats of Chains that carry the verification status.
var Formats = map[chainsconfig.PayloadType]formats.PayloaderInit{
	formats.PayloadTypeSlsav2alpha3: v2alpha3.NewFormatter,
	formats.PayloadTypeSlsav2alpha4: v2alpha4.NewFormatter,
}

// Reporter reports on a run of Chains (*objects.TaskRunObjectV1 or
// *objects.PipelineRunObjectV1). There is no report when the status is not
// wanted.
type Reporter interface {
	Report(ctx context.Context, run any) (report Report, wanted bool)
}

// Register makes Chains write the status into its attestations. Chains refuses
// formats that it does not know, so the ones that it knows are wrapped. To be
// called before Chains' controllers start: the registry has no lock.
func Register(reporter Reporter) {
	for format, original := range Formats {
		formats.RegisterPayloader(format, func(cfg chainsconfig.Config) (formats.Payloader, error) {
			payloader, err := original(cfg)
			if err != nil {
				return nil, err
			}
			return enriching{payloader, reporter}, nil
		})
	}
}

// enriching is Chains' payloader but for the status in what it creates.
type enriching struct {
	formats.Payloader
	reporter Reporter
}

// CreatePayload implements formats.Payloader. What goes wrong with the status
// never is an error: Chains would mark the run as failed.
func (p enriching) CreatePayload(ctx context.Context, run any) (any, error) {
	report, wanted := p.reporter.Report(ctx, run)
	if !wanted {
		return p.Payloader.CreatePayload(ctx, run)
	}
	payload, err := p.Payloader.CreatePayload(ctx, started(run))
	if err != nil {
		return payload, err
	}
	enriched, err := Enrich(statementOf(payload), report)
	if err != nil {
		logging.FromContext(ctx).Errorw("The attestation is made without the verification status", zap.Error(err))
		return payload, nil
	}
	return enriched, nil
}

// started is the run without the steps of TaskRuns that were refused before
// they had a pod. Tekton lists these steps nevertheless, and Chains makes no
// attestation of a step without an image.
func started(run any) any {
	switch run := run.(type) {
	case *objects.TaskRunObjectV1:
		return objects.NewTaskRunObjectV1(startedTaskRun(run.TaskRun))
	case *objects.PipelineRunObjectV1:
		started := objects.NewPipelineRunObjectV1(run.PipelineRun)
		for _, tr := range run.GetTaskRuns() {
			started.AppendTaskRun(startedTaskRun(tr))
		}
		return started
	}
	return run
}

func startedTaskRun(tr *v1.TaskRun) *v1.TaskRun {
	if tr.Status.PodName != "" || len(tr.Status.Steps) == 0 {
		return tr
	}
	tr = tr.DeepCopy()
	tr.Status.Steps = nil
	return tr
}

// statementOf takes both of the forms that Chains makes.
func statementOf(payload any) *intoto.Statement {
	switch statement := payload.(type) {
	case *intoto.Statement:
		return statement
	case intoto.Statement: // Chains returns it by value
		return &statement
	}
	return nil
}
