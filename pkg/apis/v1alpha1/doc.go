// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 has the types and names that users and other programs rely on: the
// KeyRing, labels, annotations, and the reasons of Events. They are public API: a change
// is listed in the CHANGELOG.
//
// +kubebuilder:object:generate=true
// +groupName=trustedresources.tekton.dev
package v1alpha1

// Group is the prefix of every name of this project in Kubernetes.
const Group = "trustedresources.tekton.dev"
