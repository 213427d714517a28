// SPDX-License-Identifier: Apache-2.0

// Package verification goes from a run to the verdicts on the resources behind it. The
// gate and the attestation both use it, so they cannot come to different verdicts on
// the same record of a run, policies and keys.
package verification

import (
	"context"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/attestation"
	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// Verifier verifies the resources behind runs.
type Verifier struct {
	// Collector reads what ran. Verifier sets its Dialect.
	Collector dependencies.Collector
	// ChildCreations take the place of those of the Collector in Child.
	ChildCreations dependencies.RunCreations

	Policies policy.InputVerifier
	Keys     policy.OwnKeys
	// Verified, if not nil, is told the ID of each key that verified a resource.
	Verified func(keyID string)
	// Dialect returns the dialect of the installed release of Tekton.
	Dialect func() tekton.Dialect
	Clock   clock.PassiveClock
}

// TaskRun returns a record for each resource behind a TaskRun that no PipelineRun
// controls.
func (v *Verifier) TaskRun(ctx context.Context, tr *v1.TaskRun) []attestation.Record {
	return v.evaluate(ctx, tr.Namespace, v.collector().CollectTaskRun(ctx, tr))
}

// PipelineRun returns a record for each resource behind a PipelineRun with these
// TaskRuns.
func (v *Verifier) PipelineRun(ctx context.Context, pr *v1.PipelineRun, taskRuns []*v1.TaskRun) []attestation.Record {
	return v.evaluate(ctx, pr.Namespace, v.collector().CollectPipelineRun(ctx, pr, taskRuns))
}

// Child returns a record for each resource behind one TaskRun of a PipelineRun: those
// of PipelineRun without the resources of the other TaskRuns, which ran before it or
// beside it. The records of other TaskRuns say only which of these do not count as the
// runs of their tasks.
func (v *Verifier) Child(ctx context.Context, pr *v1.PipelineRun, taskRuns []*v1.TaskRun, child *v1.TaskRun) []attestation.Record {
	collector := v.collector()
	collector.Creations = v.ChildCreations
	return v.evaluate(ctx, pr.Namespace, collector.CollectChild(ctx, pr, taskRuns, child))
}

// collector returns the collector for one run.
func (v *Verifier) collector() *dependencies.Collector {
	collector := v.Collector
	collector.Stored, collector.Dialect = &lookups{from: v.Collector.Stored, clock: v.Clock}, v.Dialect()
	return &collector
}

func (v *Verifier) evaluate(ctx context.Context, namespace string, collected []dependencies.Dependency) []attestation.Record {
	records := make([]attestation.Record, 0, len(collected))
	for _, d := range collected {
		records = append(records, v.Record(ctx, namespace, d))
	}
	return records
}

// Record returns the record of one dependency of a run in a namespace.
func (v *Verifier) Record(ctx context.Context, namespace string, d dependencies.Dependency) attestation.Record {
	verdict := policy.Evaluate(ctx, v.Policies, v.Keys, namespace, d.PolicyResource())
	v.noteKeys(verdict)
	return attestation.Record{Dependency: d, Verdict: verdict}
}

func (v *Verifier) noteKeys(verdict policy.Verdict) {
	if v.Verified == nil {
		return
	}
	for _, outcome := range verdict.Policies {
		if outcome.Result == policy.Passed {
			v.Verified(outcome.KeyID)
		}
	}
}
