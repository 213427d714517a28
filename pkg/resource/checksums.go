// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"bytes"
	"context"
	"slices"

	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// Checksums are Tekton's checksums of one content, one for each dialect. The dialect
// of the installed release can change at any time, so that all of them are computed
// while the content is at hand.
type Checksums tekton.Checksums

// ChecksumsOf returns the checksums of obj with defaults set.
func ChecksumsOf(ctx context.Context, obj Object) (all Checksums, err error) {
	defaulted, err := withDefaults(ctx, obj)
	if err != nil {
		return all, err
	}
	checksums, err := tekton.ChecksumsOf(defaulted)
	return Checksums(checksums), err
}

// In returns the checksum in a dialect.
func (c *Checksums) In(dialect tekton.Dialect) []byte { return c[dialect][:] }

// Content returns a checksum that tells two contents apart, whatever release of
// Tekton is installed. It is not what is signed.
func (c *Checksums) Content() []byte { return c.In(tekton.Newest) }

// Dialects returns the dialects with different checksums, beginning with the given one.
func (c *Checksums) Dialects(first tekton.Dialect) []tekton.Dialect {
	different := []tekton.Dialect{first}
	for _, dialect := range tekton.Dialects {
		same := func(other tekton.Dialect) bool { return c[other] == c[dialect] }
		if !slices.ContainsFunc(different, same) {
			different = append(different, dialect)
		}
	}
	return different
}

// With returns the dialects in which the content has a checksum.
func (c *Checksums) With(checksum []byte) (dialects []tekton.Dialect) {
	for _, dialect := range tekton.Dialects {
		if bytes.Equal(c.In(dialect), checksum) {
			dialects = append(dialects, dialect)
		}
	}
	return dialects
}
