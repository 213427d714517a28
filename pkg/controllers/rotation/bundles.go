// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

const (
	// bundlesTimeout bounds one look at bundles. The next look goes on where it ended.
	bundlesTimeout = 30 * time.Second
	// bundlesAtOnce are the resources whose bundles are looked at at the same time.
	bundlesAtOnce = 8
)

// Bundles are the bundles of resources in a registry.
type Bundles interface {
	// Place says which resources are stored now, and in which registry. It is empty if
	// none are.
	Place() string
	// Left returns the tag of the newest bundle of a resource if it still has a signature
	// of the old key; empty otherwise.
	Left(ctx context.Context, r *resource.Summary, old *keys.Key) (tag string, err error)
}

// moved are the resources whose newest bundles have no signature of an old key. They stay
// so, because the old key signs nothing any more.
type moved struct {
	of   epoch
	done map[types.UID]bool
}

// epoch is what must not change for a look at bundles to stay true.
type epoch struct {
	keyID string
	until time.Time // when the key ended to sign
	place string
}

// bundlesMoved returns nil if no stored bundle needs a signature of a key.
func (c *Controller) bundlesMoved(ctx context.Context, ring *v1alpha1.KeyRing, old *v1alpha1.RingKeyStatus) error {
	place := c.Bundles.Place()
	if place == "" || ring.Spec.Rotation.IgnoreBundles {
		return nil
	}
	key, err := keys.FromPEM(old.PublicKey)
	if err != nil {
		return fmt.Errorf("the public half of key %q: %w", old.Name, err)
	}
	now := epoch{keyID: key.ID, until: old.ActiveUntil.Time, place: place}
	known := c.moved[ring.Name]
	if known == nil || known.of != now {
		known = &moved{of: now, done: map[types.UID]bool{}}
		c.moved[ring.Name] = known
	}
	var all []*resource.Summary
	c.Resources.Visit(func(r *resource.Summary) { all = append(all, r) })
	left, err := known.look(ctx, all, key, c.Bundles)
	return stillStored(old.Name, left, len(known.done)+len(left), len(all), err)
}

// stillStored returns nil if no bundle is left, and all resources were looked at.
func stillStored(key string, left []string, looked, resources int, err error) error {
	const escape = "spec.rotation.ignoreBundles goes on nevertheless"
	switch {
	case len(left) > 0:
		return blocked{fmt.Sprintf("%d bundles have a signature of key %q, such as %s; %s", len(left), key, strings.Join(left[:min(len(left), maxListed)], ", "), escape)}
	case err != nil:
		return blocked{fmt.Sprintf("it is not known which bundles have a signature of key %q, after a look at those of %d of %d resources: %v; %s", key, looked, resources, err, escape)}
	}
	return nil
}

// look looks at the bundles of the resources that it has not looked at before. It ends at
// the first error: the registry may not answer.
func (m *moved) look(ctx context.Context, all []*resource.Summary, old *keys.Key, bundles Bundles) (left []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, bundlesTimeout)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(bundlesAtOnce)
	var mu sync.Mutex // guards left and done
	for _, r := range m.next(all) {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			tag, err := bundles.Left(ctx, r, old)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if tag == "" {
				m.done[r.UID] = true
			} else {
				left = append(left, tag)
			}
			return nil
		})
	}
	err = group.Wait()
	slices.Sort(left)
	return left, err
}

// next returns the resources that were not looked at, and forgets those that do not exist any
// more.
func (m *moved) next(all []*resource.Summary) (unknown []*resource.Summary) {
	done := map[types.UID]bool{}
	for _, r := range all {
		if m.done[r.UID] {
			done[r.UID] = true
		} else {
			unknown = append(unknown, r)
		}
	}
	m.done = done
	return unknown
}
