// SPDX-License-Identifier: Apache-2.0

package v1alpha1

const (
	// VerifyLabel on a namespace says what happens to the TaskRuns in the namespace:
	// VerifyEnforce or VerifyWarn.
	VerifyLabel = "trustedresources.tekton.dev/verify"
	// VerifyEnforce holds the Pods of TaskRuns until all resources behind them are verified.
	VerifyEnforce = "enforce"
	// VerifyWarn reports the same verdicts, and holds nothing.
	VerifyWarn = "warn"

	// GateProbeNamespace has the label VerifyEnforce, and no Pods: the controller tries there,
	// in dry runs, whether the API server holds and guards Pods.
	GateProbeNamespace = "tekton-chains-gate-probe"

	// SchedulingGate holds a Pod of a TaskRun until the controller has a verdict.
	SchedulingGate = "trustedresources.tekton.dev/verified"

	// RequestedByAnnotation is the user whose write made the present content of a
	// resource. Tekton's checksum covers the annotation, and so does the signature.
	RequestedByAnnotation = "trustedresources.tekton.dev/requested-by"
)
