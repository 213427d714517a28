// SPDX-License-Identifier: Apache-2.0

package storing

import (
	"context"
	"errors"
	"fmt"

	"github.com/trusted-resources/chains-extension/pkg/controllers/resources"
	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
)

// signDisplaced gives the bundle that a new one has displaced a signature of the active key,
// too. If that fails, the new bundle is stored nevertheless, and the next attempt comes
// back to the displaced one.
func (s *Storer) signDisplaced(ctx context.Context, key string, store *oci.Store, r *resource.Summary, d decision.Decision, displaced string) error {
	s.mu.Lock()
	if displaced == "" {
		displaced = s.displaced[key]
	} else {
		s.displaced[key] = displaced
	}
	s.mu.Unlock()
	if displaced == "" {
		return nil
	}
	known := s.state.Snapshot(r.Namespace).Keys // after the decision, so that no key was revoked meanwhile
	if err := signEarlier(ctx, store, s.emitter, r, r.Checksums.In(d.Dialect), displaced, d.Key, known); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.displaced, key)
	return nil
}

// signEarlier signs an earlier bundle of a resource unless the key must not vouch for it.
func signEarlier(
	ctx context.Context, store *oci.Store, emitter resources.Emitter, r *resource.Summary, checksum []byte, earlier string, key *keys.Key, known *keys.Ring,
) error {
	id := oci.ID{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}
	reference, signed, err := store.SignEarlier(ctx, id, checksum, earlier, key, known)
	switch {
	case errors.Is(err, keys.ErrSigner):
		return err
	case err != nil && !errors.Is(err, oci.ErrNotTrusted):
		return fmt.Errorf("%w: a signature of key %s for the earlier bundle %s: %w", resources.ErrStoring, key.ID, earlier, err)
	case err != nil, signed:
		emitter.Emit(ctx, observe.EarlierBundle{Resource: r, Reference: reference, KeyID: key.ID, Err: err})
	}
	return nil
}
