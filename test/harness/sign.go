// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"maps"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/tektoncd/pipeline/pkg/trustedresources"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Signer signs resources with a key that the controller does not have.
type Signer struct{ signature.Signer }

// NewSigner returns a Signer with a new key.
func NewSigner() (Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Signer{}, err
	}
	signer, err := signature.LoadSigner(key, crypto.SHA256)
	return Signer{signer}, err
}

// Sign sets the defaults of a resource and adds the signature annotation.
func (s Signer) Sign(ctx context.Context, obj resource.Object) error {
	obj.SetDefaults(ctx)
	checksum, err := obj.Checksum()
	if err != nil {
		return err
	}
	sig, err := s.SignMessage(bytes.NewReader(checksum))
	if err != nil {
		return err
	}
	annotations := maps.Clone(obj.GetAnnotations())
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[trustedresources.SignatureAnnotation] = resource.EncodeSignature(sig)
	obj.SetAnnotations(annotations)
	return nil
}
