// SPDX-License-Identifier: Apache-2.0

package v1alpha1

const (
	// ReportsLabel marks the Reports that the controller writes. Its value is the namespace
	// of the controller.
	ReportsLabel = Group + "/reports-of"
	// ReportPassedAnnotation on a Report names the resources that passed, which have no
	// results in the Report. Only the controller can read the value.
	ReportPassedAnnotation = Group + "/passed"
)
