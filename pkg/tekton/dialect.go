// SPDX-License-Identifier: Apache-2.0

package tekton

import (
	"crypto/sha256"
	"fmt"

	"github.com/tektoncd/pipeline/pkg/trustedresources"
	"golang.org/x/mod/semver"
	"k8s.io/apimachinery/pkg/runtime"
)

// Dialect is the JSON of a resource that a release of Tekton hashes: each release
// hashes the JSON of the types that it is built with (docs/design/0022).
type Dialect int

// The dialects. The zero value is that of the newest releases.
const (
	// Newest is the dialect since v1.14.0.
	Newest Dialect = iota
	// TemplateNames is the dialect since v1.10.0: a step template of v1beta1 without a
	// name has "name":"". The API of v1 has no such name.
	TemplateNames
	// NullTimestamps is the dialect before v1.10.0, with the types of Kubernetes 1.32:
	// metadata without a time of creation also has "creationTimestamp":null.
	NullTimestamps
)

// Dialects are all dialects, the newest first.
var Dialects = [...]Dialect{Newest, TemplateNames, NullTimestamps}

// The first releases of the dialects.
const (
	firstOfNewest        = "v1.14.0"
	firstOfTemplateNames = "v1.10.0"
)

// String returns the releases that have the dialect.
func (d Dialect) String() string {
	switch d {
	case Newest:
		return "Tekton " + firstOfNewest + " and newer"
	case TemplateNames:
		return "Tekton " + firstOfTemplateNames + " to before " + firstOfNewest
	case NullTimestamps:
		return "Tekton before " + firstOfTemplateNames
	}
	return fmt.Sprintf("unknown dialect %d", int(d))
}

// Dialect returns the dialect of the release. A release that is unknown or newer than
// this controller has the newest one.
func (r Release) Dialect() Dialect {
	version := r.semantic()
	before := func(first string) bool { return semver.Compare(version, first+"-0") < 0 } // with its release candidates
	switch {
	case !semver.IsValid(version):
		return Newest
	case before(firstOfTemplateNames):
		return NullTimestamps
	case before(firstOfNewest):
		return TemplateNames
	}
	return Newest
}

// Object is a resource of the types with which this program is built.
type Object interface {
	runtime.Object
	trustedresources.Hashable
}

// Checksums are the checksums of one resource by dialect.
type Checksums [len(Dialects)][sha256.Size]byte

// ChecksumsOf returns the checksums of a resource whose defaults are set. It may remove
// fields that the releases of a dialect do not have.
func ChecksumsOf(resource Object) (all Checksums, err error) {
	for _, dialect := range Dialects {
		if dialect == TemplateNames && !hasTemplateNames(resource) {
			all[dialect] = all[Newest]
			continue
		}
		checksum, err := dialect.Checksum(resource)
		if err != nil {
			return all, err
		}
		copy(all[dialect][:], checksum)
	}
	return all, nil
}

// hasTemplateNames reports whether the dialects Newest and TemplateNames can differ.
func hasTemplateNames(resource Object) bool {
	switch resource.(type) {
	case *betaTask, *betaPipeline:
		return true
	}
	return false
}

// Checksum returns the checksum that Tekton computes of a resource whose defaults are
// set. It may remove fields that the releases of the dialect do not have.
func (d Dialect) Checksum(resource Object) ([]byte, error) {
	switch d {
	case Newest:
		return resource.Checksum()
	case TemplateNames, NullTimestamps:
		return d.hash(resource)
	}
	return nil, fmt.Errorf("the checksum of a %T: %s", resource, d)
}
