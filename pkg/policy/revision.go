// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
)

// Revision says which state of which policy made an outcome. A name does not: the
// policy may be changed, or replaced by another one with the same name.
type Revision struct {
	UID, ResourceVersion string
	// SpecSHA256 is the SHA-256 of the spec in canonical JSON (RFC 8785), in
	// hexadecimal.
	SpecSHA256 string
}

func revisionOf(p *v1alpha1.VerificationPolicy) Revision {
	return Revision{UID: string(p.UID), ResourceVersion: p.ResourceVersion, SpecSHA256: SpecSHA256(p.Spec)}
}

// SpecSHA256 returns the hash of the spec of a policy, as in Revision. The API server serves
// the same fields as the Go type has: Tekton's webhook refuses others, and removes empty
// ones; those of a ClusterVerificationPolicy are dropped.
func SpecSHA256(spec any) string {
	data, err := json.Marshal(spec)
	if err == nil {
		data, err = jsoncanonicalizer.Transform(data)
	}
	if err != nil {
		return "" // not possible: a spec holds texts only
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
