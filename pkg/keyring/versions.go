// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"strconv"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// NewerVersion returns the latest version of a key in its KMS, if no key of the ring has this
// version or a later one, and the key has the newest version in the ring. Otherwise it is
// empty.
func NewerVersion(ring *v1alpha1.KeyRing, status *v1alpha1.RingKeyStatus) string {
	spec := SpecOf(ring, status.Name)
	if spec == nil || spec.KMS == nil {
		return ""
	}
	latest, own := number(status.LatestVersion), number(spec.KMS.Version)
	if own == 0 || latest <= own {
		return ""
	}
	for _, other := range ring.Spec.Keys {
		if other.KMS != nil && other.KMS.Ref == spec.KMS.Ref && number(other.KMS.Version) > own {
			return ""
		}
	}
	return status.LatestVersion
}

// number returns 0 for what is not the number of a version.
func number(version string) int {
	n, err := strconv.Atoi(version)
	if err != nil {
		return 0
	}
	return n
}
