// SPDX-License-Identifier: Apache-2.0

package storing

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/trusted-resources/chains-extension/pkg/controllers/resources"
	"github.com/trusted-resources/chains-extension/pkg/controllers/state"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
)

// Bundles answers what the rotation of keys asks about the bundles in the registry.
type Bundles struct {
	state   *state.State
	store   Store
	emitter resources.Emitter
}

// NewBundles returns Bundles.
func NewBundles(s *state.State, store Store, emitter resources.Emitter) *Bundles {
	return &Bundles{state: s, store: store, emitter: emitter}
}

// Place says which resources are stored now, and in which registry. It is empty if none
// are.
func (b *Bundles) Place() string {
	cfg := b.state.Config()
	var kinds []string
	for _, kind := range resource.Kinds {
		if stores(cfg, kind) {
			kinds = append(kinds, string(kind))
		}
	}
	if len(kinds) == 0 {
		return ""
	}
	return strings.Join(kinds, ",") + " in " + cfg.Repository
}

// Left returns the tag of the newest bundle of a resource if the resource in the bundle has
// a signature of an old key. Otherwise, the earlier bundles of the present state get a
// signature of the active key: the process that stored the present one may have ended
// before it could sign them.
func (b *Bundles) Left(ctx context.Context, r *resource.Summary, old *keys.Key) (tag string, err error) {
	store, snapshot := b.store(), b.state.Snapshot(r.Namespace)
	if store == nil || !stores(snapshot.Config, r.Kind) {
		return "", nil
	}
	id := oci.ID{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}
	newest, err := store.Newest(ctx, id)
	switch {
	case err != nil:
		return "", err
	case newest == nil:
		return "", nil
	case old.Verify(newest.Signature, newest.Checksum):
		return newest.Reference, nil
	}
	checksum := r.Checksums.In(snapshot.Release.Dialect())
	if !bytes.Equal(newest.Checksum, checksum) {
		return "", nil // the present state is not stored yet
	}
	earlier, err := store.Earlier(ctx, id, checksum)
	if err != nil || len(earlier) == 0 {
		return "", err
	}
	key, err := snapshot.Keys.Active(snapshot.Config.Signer(r.Kind))
	if err != nil {
		return "", fmt.Errorf("signing the earlier bundles of %s: %w", id, err)
	}
	for _, bundle := range earlier {
		if err := signEarlier(ctx, store, b.emitter, r, checksum, bundle, key, snapshot.Keys); err != nil {
			return "", err
		}
	}
	return "", nil
}
