// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
)

// errEnough ends a list early.
var errEnough = errors.New("enough tags")

// Tags calls visit with each tag after the given one, in the order of the registry, until
// visit returns false. Registries list tags in lexical order (distribution specification
// 1.1, "Listing Tags"). A repository that does not exist has no tags.
func (r *Repository) Tags(ctx context.Context, after string, visit func(tag string) bool) error {
	err := r.remote.Tags(ctx, after, func(page []string) error {
		for _, tag := range page {
			if !visit(tag) {
				return errEnough
			}
		}
		return nil
	})
	if errors.Is(err, errEnough) || IsNotFound(err) {
		return nil
	}
	return r.wrap("listing the tags", err)
}
