// SPDX-License-Identifier: Apache-2.0

// Package oci puts signed resources into an OCI registry and finds them there.
// Each state of a resource is a Tekton bundle with a signature as a referrer. The
// tag of the bundle is the checksum of the resource.
package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// ID identifies a resource in a cluster.
type ID struct {
	Kind            resource.Kind
	Namespace, Name string
}

func (id ID) String() string { return fmt.Sprintf("%s %s/%s", id.Kind, id.Namespace, id.Name) }

// IDOf returns the ID of an object.
func IDOf(obj resource.Object) ID {
	return ID{resource.KindOf(obj), obj.GetNamespace(), obj.GetName()}
}

// validate returns an error for names that Kubernetes rejects. Names become
// repositories and tags, so a name such as "../other" must not pass.
func (id ID) validate() error {
	if !slices.Contains(resource.Kinds, id.Kind) {
		return fmt.Errorf("kind %.80q, expected one of %v", id.Kind, resource.Kinds)
	}
	if problems := validation.IsDNS1123Label(id.Namespace); len(problems) > 0 {
		return fmt.Errorf("namespace %.300q: %s", id.Namespace, strings.Join(problems, "; "))
	}
	if problems := validation.IsDNS1123Subdomain(id.Name); len(problems) > 0 {
		return fmt.Errorf("name %.300q: %s", id.Name, strings.Join(problems, "; "))
	}
	return nil
}

// RepositoryName returns the name of the repository for the resources of a
// namespace: the prefix and the namespace. With a repository for each namespace,
// the patterns of policies and the permissions of registry users can distinguish
// namespaces.
func RepositoryName(prefix string, id ID) (string, error) {
	if err := id.validate(); err != nil {
		return "", err
	}
	repository := prefix + "/" + id.Namespace
	if _, err := registry.ParseRepository(repository); err != nil {
		return "", err
	}
	return repository, nil
}

// NamespaceOf returns the namespace whose resources a repository holds. It is the
// reverse of RepositoryName. ok is false if no namespace has the repository, or if
// there is no prefix. The name may be spelled as Tekton's resolver spells it.
func NamespaceOf(prefix, repository string) (namespace string, ok bool) {
	found, err := registry.ParseRepository(repository)
	if err != nil || prefix == "" {
		return "", false
	}
	namespace = path.Base(found.RepositoryStr())
	if len(validation.IsDNS1123Label(namespace)) > 0 {
		return "", false
	}
	expected, err := registry.ParseRepository(prefix + "/" + namespace)
	if err != nil || !strings.EqualFold(expected.Name(), found.Name()) { // the name of a host has no case
		return "", false
	}
	return namespace, true
}

const (
	maxTag = 128 // distribution specification 1.1, "Pulling manifests"
	// displacedDigits is the number of hexadecimal digits of a bundle's digest in
	// displacedTag. They distinguish the few bundles that share a checksum.
	displacedDigits = 16
)

// StateTag returns the tag of one state of a resource: the checksum in
// hexadecimal. The checksum covers the kind, namespace and name.
func StateTag(checksum []byte) string { return hex.EncodeToString(checksum) }

// displacedTag returns the tag of a bundle that loses its state tag to a bundle
// of the same state, signed with another key.
func displacedTag(checksum []byte, bundle digest.Digest) string {
	return StateTag(checksum) + "-" + bundle.Encoded()[:displacedDigits]
}

// NewestTag returns the tag of the newest state of a resource: kind, dot, name.
// Kinds contain no dot, so two resources never share a tag. A tag that would be
// too long ends in a hash.
func NewestTag(id ID) string {
	tag := id.Kind.ConfigName() + "." + id.Name
	if len(tag) <= maxTag {
		return tag
	}
	sum := sha256.Sum256([]byte(tag))
	suffix := "_" + hex.EncodeToString(sum[:]) // names contain no underscore, so no name equals a hashed tag
	return tag[:maxTag-len(suffix)] + suffix
}
