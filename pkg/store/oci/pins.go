// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"encoding/hex"
	"fmt"
	"regexp"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Pin is an earlier bundle of one state of a resource, and the present one with another
// signature.
type Pin struct {
	// Tag is that of the earlier bundle.
	Tag              string
	Earlier, Present *Image
	// Err is why the present bundle does not replace the earlier one; nil if it does.
	Err error
}

var displacedTags = regexp.MustCompile(fmt.Sprintf(`^([0-9a-f]{64})-[0-9a-f]{%d}$`, displacedDigits))

// Pins returns the earlier bundles of the resources of a namespace. Those without an Err are
// replaced by a present one with the same content that trusted keys signed.
func (s *Store) Pins(ctx context.Context, namespace string, trusted *keys.Ring) ([]Pin, error) {
	anyone := ID{Kind: resource.Task, Namespace: namespace, Name: "any"} // all names have the same repository
	repository, err := s.repository(ctx, anyone)
	if err != nil {
		return nil, err
	}
	var pins []Pin
	err = repository.Tags(ctx, "", func(tag string) bool {
		if displacedTags.MatchString(tag) {
			pins = append(pins, Pin{Tag: tag})
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	for i := range pins {
		pins[i].Err = pins[i].read(ctx, repository, trusted)
		if registry.Unavailable(pins[i].Err) {
			return nil, pins[i].Err
		}
	}
	return pins, nil
}

// read reads the two bundles. The present one must be trusted, and have what the tags say.
func (p *Pin) read(ctx context.Context, repository *registry.Repository, trusted *keys.Ring) error {
	state := displacedTags.FindStringSubmatch(p.Tag)[1]
	checksum, err := hex.DecodeString(state)
	if err != nil {
		return err
	}
	if p.Earlier, err = inspectTag(ctx, repository, p.Tag, trusted); err != nil {
		return err
	}
	if p.Present, err = inspectTag(ctx, repository, state, trusted); err != nil {
		return err
	}
	if len(p.Present.Resources) != 1 {
		return fmt.Errorf("%s is %w: it has %d resources, expected one", p.Present.Reference, ErrNotTrusted, len(p.Present.Resources))
	}
	id := IDOf(p.Present.Resources[0].Object)
	if err := p.Present.holdsOnly(id, checksum); err != nil {
		return err
	}
	if p.Earlier.Resource(id, checksum) == nil {
		return fmt.Errorf("%s is %w: it does not have %s with the checksum %s", p.Earlier.Reference, ErrNotTrusted, id, state)
	}
	return nil
}

func inspectTag(ctx context.Context, repository *registry.Repository, tag string, trusted *keys.Ring) (*Image, error) {
	manifest, err := repository.Manifest(ctx, tag)
	if err != nil {
		return nil, err
	}
	return inspect(ctx, repository, manifest, trusted)
}
