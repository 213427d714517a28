// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	corev1 "k8s.io/api/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/audit"
)

// GateReleased means that the held Pod of a TaskRun was released. There is an Event
// only if something was not verified.
type GateReleased struct {
	TaskRun  *corev1.ObjectReference
	Pod      string
	Warnings []string
	Waited   time.Duration // since the creation of the Pod
}

func (f GateReleased) report() report {
	made := report{
		log:   logLine{zapcore.InfoLevel, "Pod released", append(runNames(f.TaskRun), "pod", f.Pod)},
		count: gateDecision("released"), took: waited("released", f.Waited),
		audit: ofRun(audit.RunReleased, f.TaskRun, audit.Success, audit.Why{Message: strings.Join(f.Warnings, "; ")}),
	}
	if len(f.Warnings) > 0 {
		warnings := strings.Join(f.Warnings, "; ")
		made.about, made.event = f.TaskRun, Warning(v1alpha1.ReasonReleasedUnverified, "Released in spite of: "+warnings)
		made.log.keysAndValues = append(made.log.keysAndValues, "warnings", warnings)
	}
	return made
}

// GateRefused means that a TaskRun was cancelled before its Pod started.
type GateRefused struct {
	TaskRun *corev1.ObjectReference
	Pod     string
	Why     string
	Waited  time.Duration // since the creation of the Pod
}

func (f GateRefused) report() report {
	return report{
		about: f.TaskRun, event: Warning(v1alpha1.ReasonRunRefused, f.Why),
		log:   logLine{zapcore.WarnLevel, "Run refused", append(runNames(f.TaskRun), "pod", f.Pod, "why", f.Why)},
		count: gateDecision("refused"), took: waited("refused", f.Waited),
		audit: ofRun(audit.RunRefused, f.TaskRun, audit.Success, audit.Why{Reason: v1alpha1.ReasonRunRefused, Message: f.Why}),
	}
}

// GateWaits means that the Pod of a TaskRun stays held, because something is not known
// now.
type GateWaits struct {
	TaskRun *corev1.ObjectReference
	Why     string
}

func (f GateWaits) report() report {
	return report{
		about: f.TaskRun, event: Warning(v1alpha1.ReasonRunHeld, "Held, and decided later: "+f.Why),
		log:   logLine{zapcore.InfoLevel, "Run waits", append(runNames(f.TaskRun), "why", f.Why)},
		count: gateDecision("waiting"),
	}
}

// GateOpened means that the held Pod of a TaskRun was released without a verification,
// because its namespace had lost the label.
type GateOpened struct {
	TaskRun *corev1.ObjectReference
	Pod     string
	Waited  time.Duration // since the creation of the Pod
}

func (f GateOpened) report() report {
	return report{
		about: f.TaskRun, event: Warning(v1alpha1.ReasonReleasedUnverified, "Released without a verification: the namespace has no label "+
			v1alpha1.VerifyLabel+": "+v1alpha1.VerifyEnforce+" any more"),
		log:   logLine{zapcore.WarnLevel, "Pod released without a verification", append(runNames(f.TaskRun), "pod", f.Pod)},
		count: gateDecision("opened"), took: waited("opened", f.Waited),
		audit: ofRun(audit.RunReleased, f.TaskRun, audit.Success, audit.Why{Reason: v1alpha1.ReasonReleasedUnverified, Message: "the namespace is not enforced any more"}),
	}
}

// GateWarned means that a TaskRun was verified in a namespace that asks for warnings
// only. Refused says why the TaskRun would have been refused; empty if it would not.
type GateWarned struct {
	TaskRun  *corev1.ObjectReference
	Refused  string
	Warnings []string
}

func (f GateWarned) report() report {
	warnings := strings.Join(f.Warnings, "; ")
	switch {
	case f.Refused != "":
		return report{
			about: f.TaskRun, event: Warning(v1alpha1.ReasonReleasedUnverified, "Would be refused: "+f.Refused),
			log:   logLine{zapcore.WarnLevel, "Run would be refused", append(runNames(f.TaskRun), "why", f.Refused)},
			count: gateDecision("would-refuse"),
		}
	case warnings != "":
		return report{
			about: f.TaskRun, event: Warning(v1alpha1.ReasonReleasedUnverified, "Would be released in spite of: "+warnings),
			log:   logLine{zapcore.InfoLevel, "Run would be released", append(runNames(f.TaskRun), "warnings", warnings)},
			count: gateDecision("would-release"),
		}
	default:
		return report{count: gateDecision("would-release")}
	}
}

// GatePanicked means that the decision about a TaskRun panicked. Its Pod stays held.
type GatePanicked struct {
	TaskRun *corev1.ObjectReference
	Err     error
}

func (f GatePanicked) report() report {
	return report{
		about: f.TaskRun, event: Warning(v1alpha1.ReasonPanicked, "Held: "+f.Err.Error()),
		log:   logLine{zapcore.ErrorLevel, "Run not decided", append(append(runNames(f.TaskRun), zap.Error(f.Err)), stackOf(f.Err)...)},
		count: gateDecision("panicked"),
	}
}

func gateDecision(name string) counted {
	return counted{gateDecisions, []attribute.KeyValue{attribute.String("decision", name)}}
}

func waited(decision string, duration time.Duration) []measured {
	return []measured{{gateWait, duration, gateDecision(decision).attributes}}
}
