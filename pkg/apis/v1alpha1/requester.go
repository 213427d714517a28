// SPDX-License-Identifier: Apache-2.0

package v1alpha1

const (
	// SignVerb is the RBAC verb on Tasks, Pipelines and StepActions of the API group
	// tekton.dev. Content that a holder of this right writes may be signed.
	SignVerb = "sign"

	// NotAuthorizedAnnotation is the user whose write made the present content of a
	// resource, and who may not have the resource signed. It is for people: nothing
	// trusts the value.
	NotAuthorizedAnnotation = Group + "/not-authorized"
)
