// SPDX-License-Identifier: Apache-2.0

// Package realnode tests the controller as users run it: as Pods of the Deployment in
// config/, on nodes that run containers, with TaskRuns whose steps run. The tests need
// root, and the packages that make e2e installs; they have the build tag realnode.
package realnode
