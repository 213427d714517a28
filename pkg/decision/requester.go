// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"errors"
	"fmt"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/snapshot"
)

var (
	// ErrNotAuthorized means that nobody with the right to sign made or approved the
	// content of a resource.
	ErrNotAuthorized = errors.New("trustedresources.requester is required, and nobody with the verb sign on this resource made or approved " +
		"its content; let somebody with this right look at the content and set the annotation trustedresources.tekton.dev/requested-by")
	// ErrRequesterUnsafe means that the requester in a resource cannot be relied upon.
	ErrRequesterUnsafe = errors.New("trustedresources.requester is required, and cannot be relied upon")
)

// aboutRequester completes a decision to sign: if a requester is required, only content
// with a requester is signed. A signature that exists is left as it is.
func aboutRequester(s *snapshot.Snapshot, r *resource.Summary, d Decision) Decision {
	if s.Config.Requester != config.RequesterOff && s.RequesterUnsafe == nil {
		d.RequestedBy = r.RequestedBy
	}
	if d.Action != Sign || s.Config.Requester != config.RequesterRequired {
		return d
	}
	refused := Decision{Action: Wait, Key: d.Key, Dialect: d.Dialect}
	switch {
	case s.RequesterUnsafe != nil:
		refused.Reason, refused.Err = RequesterUnsafe, fmt.Errorf("%w: %w", ErrRequesterUnsafe, s.RequesterUnsafe)
	case r.RequestedBy == "":
		refused.Reason, refused.Err = NotAuthorized, notAuthorized(r)
	default:
		return d
	}
	return refused
}

func notAuthorized(r *resource.Summary) error {
	if r.NotAuthorized == "" {
		return fmt.Errorf("%w; it is not known who made the content: the resource may be older than the setting", ErrNotAuthorized)
	}
	return fmt.Errorf("%w; the content was made by %q, who has no such right", ErrNotAuthorized, r.NotAuthorized)
}

// ErrRequesterUnknown means that it is not known yet whether the requesters in resources
// can be relied upon.
var ErrRequesterUnknown = errors.New("it is not known yet whether the requesters can be relied upon")
