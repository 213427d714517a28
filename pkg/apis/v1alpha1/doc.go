// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 has the names that users and other programs rely on: labels,
// annotations, and the reasons of Events. They are public API: a change is listed
// in the CHANGELOG.
package v1alpha1

// Group is the prefix of every name of this project in Kubernetes.
const Group = "trustedresources.tekton.dev"
