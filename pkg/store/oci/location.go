// Package oci keeps signed resources in an OCI registry: each as a Tekton
// bundle, with a signature attached as a referrer, under a tag that is made of
// the resource's checksum.
package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// ID names a resource.
type ID struct {
	Kind            resource.Kind
	Namespace, Name string
}

func (id ID) String() string { return fmt.Sprintf("%s %s/%s", id.Kind, id.Namespace, id.Name) }

// IDOf is the ID of an object.
func IDOf(obj resource.Object) ID {
	return ID{resource.KindOf(obj), obj.GetNamespace(), obj.GetName()}
}

// validate refuses what Kubernetes would not take as a name, so that no name can
// leave the place that is made of it.
func (id ID) validate() error {
	if !slices.Contains(resource.Kinds, id.Kind) {
		return fmt.Errorf("kind %.80q, expected one of %v", id.Kind, resource.Kinds)
	}
	if wrong := validation.IsDNS1123Label(id.Namespace); len(wrong) > 0 {
		return fmt.Errorf("namespace %.300q: %s", id.Namespace, strings.Join(wrong, "; "))
	}
	if wrong := validation.IsDNS1123Subdomain(id.Name); len(wrong) > 0 {
		return fmt.Errorf("name %.300q: %s", id.Name, strings.Join(wrong, "; "))
	}
	return nil
}

// Repository is where the resources of a namespace are: below the prefix, so
// that the patterns of policies and the rights of registry users can tell
// namespaces apart.
func Repository(prefix string, id ID) (string, error) {
	if err := id.validate(); err != nil {
		return "", err
	}
	repository := prefix + "/" + id.Namespace
	if _, err := registry.ParseRepository(repository); err != nil {
		return "", err
	}
	return repository, nil
}

const (
	maxTag = 128 // distribution specification 1.1, "Pulling manifests"
	// keptDigits of a digest are enough to tell bundles of one checksum apart.
	keptDigits = 16
)

// StateTag is the tag of one state of a resource: its checksum, which also
// covers kind, namespace and name.
func StateTag(checksum []byte) string { return hex.EncodeToString(checksum) }

// keptTag is the tag of a bundle whose state tag goes to another bundle of the
// same content, signed with another key.
func keptTag(checksum []byte, bundle digest.Digest) string {
	return StateTag(checksum) + "-" + bundle.Encoded()[:keptDigits]
}

// NewestTag is the tag of the newest state of a resource. Kinds have no dot in
// them, so no two resources share one.
func NewestTag(id ID) string {
	tag := id.Kind.ConfigName() + "." + id.Name
	if len(tag) <= maxTag {
		return tag
	}
	sum := sha256.Sum256([]byte(tag))
	suffix := "_" + hex.EncodeToString(sum[:]) // no name has an underscore in it
	return tag[:maxTag-len(suffix)] + suffix
}
