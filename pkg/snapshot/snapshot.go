// SPDX-License-Identifier: Apache-2.0

// Package snapshot has the state that decides about the resources of one
// namespace.
package snapshot

import (
	"context"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// Snapshot is all that decides about the resources of one namespace, apart from
// the resources themselves, at one moment. A snapshot is never changed: a change
// of the cluster makes a new one.
type Snapshot struct {
	Config      *config.Config
	Keys        *keys.Ring
	Release     tekton.Release
	Namespace   Namespace
	Authorities Authorities
	// RequesterUnsafe is why nothing may be signed while the requester is required. It is
	// nil if the requester can be relied upon.
	RequesterUnsafe error
}

// Namespace is the namespace of the resources. The zero value stands for a
// namespace that does not exist, or is not in the informer cache yet.
type Namespace struct {
	Labels map[string]string
	// Active reports that the namespace exists and is not being deleted.
	Active bool
}

// Authorities are the authorities of the VerificationPolicies of the namespace.
type Authorities interface {
	// Authorizes reports whether one of the authorities verifies the signature over
	// the checksum, whatever the resource patterns of its policy. The error means
	// that the answer is unknown, because an authority cannot be read now.
	Authorizes(ctx context.Context, signature, checksum []byte) (bool, error)
}

// WithAuthorities returns a copy of the snapshot with other authorities.
func (s *Snapshot) WithAuthorities(authorities Authorities) *Snapshot {
	with := *s
	with.Authorities = authorities
	return &with
}
