// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	corev1 "k8s.io/api/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// RightsMissing means that the service account may not do all that a part of the work
// needs. The controller runs without that part.
type RightsMissing struct {
	// ConfigMap is the object of the Event.
	ConfigMap *corev1.ObjectReference
	Rights    []string
	// Effect says what does not happen, such as WithoutRights.
	Effect string
}

// What does not happen without the rights for resources, and without those of the gate.
const (
	WithoutRights       = "No resource is signed, and attestations do not report on resources"
	WithoutRightsOfGate = "No Pod of a TaskRun is released"
)

func (f RightsMissing) report() report {
	return report{
		about: f.ConfigMap,
		event: Warning(v1alpha1.ReasonRightsMissing, f.Effect+": the service account of the controller has no right to "+
			strings.Join(f.Rights, "; ")+". Apply the ClusterRole and the ClusterRoleBinding of config/operator; no restart is needed"),
		log: logLine{zapcore.ErrorLevel, f.Effect + ": the service account of the controller lacks rights, " +
			"apply the ClusterRole and the ClusterRoleBinding of config/operator", []any{"missing", f.Rights}},
	}
}

// RightsGranted means that rights were missing, and no right is missing any more.
type RightsGranted struct{ ConfigMap *corev1.ObjectReference }

func (f RightsGranted) report() report {
	const message = "The service account of the controller has all rights: the work begins"
	return report{
		about: f.ConfigMap, event: Normal(v1alpha1.ReasonRightsGranted, message),
		log: logLine{zapcore.InfoLevel, message, nil},
	}
}

// RightsUnknown means that the API server did not say which rights the service
// account has.
type RightsUnknown struct{ Err error }

func (f RightsUnknown) report() report {
	return report{log: logLine{zapcore.WarnLevel, "Cannot ask for the rights of the service account, the question is repeated", []any{zap.Error(f.Err)}}}
}

// RequesterUnsafe means that the requesters in resources cannot be relied upon. While one
// is required, no resource is signed.
type RequesterUnsafe struct {
	ConfigMap *corev1.ObjectReference
	Err       error
}

func (f RequesterUnsafe) report() report {
	const message = "The requesters in resources cannot be relied upon; with trustedresources.requester: required nothing is signed"
	return report{
		about: f.ConfigMap, event: Warning(v1alpha1.ReasonRequesterUnsafe, message+": "+f.Err.Error()),
		log: logLine{zapcore.ErrorLevel, message, []any{zap.Error(f.Err)}},
	}
}

// RequesterSafe means that the requesters in resources can be relied upon.
type RequesterSafe struct{}

func (f RequesterSafe) report() report {
	return report{log: logLine{zapcore.InfoLevel, "The requesters in resources can be relied upon", nil}}
}
