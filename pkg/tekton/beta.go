// SPDX-License-Identifier: Apache-2.0

package tekton

import "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"

// Tekton still accepts these versions from resolvers.
type (
	betaTask     = v1beta1.Task     //nolint:staticcheck // see above
	betaPipeline = v1beta1.Pipeline //nolint:staticcheck // see above
)
