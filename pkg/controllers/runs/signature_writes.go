// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"time"

	"github.com/jellydator/ttlcache/v3"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// maxSignatureWrites bounds the resources that are remembered, at about 250 bytes each.
	maxSignatureWrites     = 20_000
	signatureWriteLifetime = 48 * time.Hour
)

// SignatureWrites remembers the writes of this process that changed nothing of a resource
// but its signature. After a rotation of keys, the content of a resource is older than
// its resourceVersion says.
type SignatureWrites struct {
	last *ttlcache.Cache[types.UID, signatureWrite]
}

// signatureWrite is the last such write to a resource.
type signatureWrite struct {
	version string // that the write made
	content string // the version since which only signatures were written
}

// NewSignatureWrites returns SignatureWrites that know of no write.
func NewSignatureWrites() *SignatureWrites {
	return &SignatureWrites{last: ttlcache.New(
		ttlcache.WithTTL[types.UID, signatureWrite](signatureWriteLifetime),
		ttlcache.WithCapacity[types.UID, signatureWrite](maxSignatureWrites),
	)}
}

// Wrote remembers a write that replaced the signature of a resource in one version, and
// made another version. The API server has refused the write if there was a version in
// between.
func (s *SignatureWrites) Wrote(resource types.UID, from, to string) {
	s.last.Set(resource, signatureWrite{version: to, content: s.contentVersion(resource, from)}, ttlcache.DefaultTTL)
}

// contentVersion returns the version in which a resource got the content that it has in
// this version, as far as that is known.
func (s *SignatureWrites) contentVersion(resource types.UID, version string) string {
	if item := s.last.Get(resource); item != nil && item.Value().version == version {
		return item.Value().content
	}
	return version
}
