// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	corev1 "k8s.io/api/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// verdicts makes reports of verdicts.
type verdicts interface {
	// Add does not wait.
	Add(ctx context.Context, v Verified)
}

// Report gives each verdict to reports. It is called before Emit.
func (e *Emitter) Report(to verdicts) { e.reports = to }

// ReportWritten means that a Report was created, changed or deleted.
type ReportWritten struct{}

func (f ReportWritten) report() report { return report{count: reportWrite("written")} }

// ReportFailed means that the Reports of one namespace were not written.
type ReportFailed struct {
	Namespace string
	Err       error
}

func (f ReportFailed) report() report {
	return report{
		log:   logLine{zapcore.WarnLevel, "Reports of a namespace not written", []any{"namespace", f.Namespace, zap.Error(f.Err)}},
		count: reportWrite("failed"),
	}
}

// ReportsRefused means that the API server takes no Report at all.
type ReportsRefused struct {
	// ConfigMap is the object of the Event; nil for a refusal that was reported before.
	ConfigMap *corev1.ObjectReference
	Err       error
}

func (f ReportsRefused) report() report {
	r := report{count: reportWrite("failed")}
	if f.ConfigMap != nil {
		const message = "No Report is written"
		r.about, r.event = f.ConfigMap, Warning(v1alpha1.ReasonReportsNotWritten, message+": "+f.Err.Error())
		r.log = logLine{zapcore.ErrorLevel, message, []any{zap.Error(f.Err)}}
	}
	return r
}

// ReportsNotDeleted means that reporting was turned off, and Reports were left.
type ReportsNotDeleted struct{ Err error }

func (f ReportsNotDeleted) report() report {
	return report{
		log:   logLine{zapcore.WarnLevel, "Reports are turned off, but not all were deleted", []any{zap.Error(f.Err)}},
		count: reportWrite("failed"),
	}
}

// ReportsResumed means that the API server takes Reports again.
type ReportsResumed struct{ ConfigMap *corev1.ObjectReference }

func (f ReportsResumed) report() report {
	const message = "Reports are written again"
	return report{
		about: f.ConfigMap, event: Normal(v1alpha1.ReasonReportsWritten, message),
		log: logLine{zapcore.InfoLevel, message, nil},
	}
}

// VerdictNotReported means that a verdict is in no Report, because too many wait to be
// written.
type VerdictNotReported struct {
	Namespace string // of the run
	// First: no verdict was dropped since the last write.
	First bool
}

func (f VerdictNotReported) report() report {
	r := report{count: reportWrite("dropped")}
	if f.First {
		r.log = logLine{zapcore.WarnLevel, "Too many verdicts wait to be reported, some are in no Report until the next run of the resource", []any{"namespace", f.Namespace}}
	}
	return r
}

func reportWrite(outcome string) counted {
	return counted{reportWrites, []attribute.KeyValue{attribute.String("outcome", outcome)}}
}
