// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"context"
	"crypto"
	"errors"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/tektoncd/chains/pkg/chains/signing"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
)

// Chains makes its signers again for each run: from files that can have changed
// since they were checked, and on which Chains can panic, or from the settings of a
// KMS, which Chains logs with the token in them. So it gets neither. It gets the
// reference to a key of a KMS that is in this process: the signer in its context
// (docs/design/0016).

const (
	// handoverRef is the reference that Chains gets.
	handoverRef = "trustedresources-handover://"
	// handedOverType is the type of each signer that is handed over.
	handedOverType = signing.TypeKMS
)

func init() { kms.AddProvider(handoverRef, handOver) }

type handoverKey struct{}

// withHandover returns a context and the configuration for it with which Chains
// signs with this signer and no other.
func withHandover(ctx context.Context, cfg *chainsconfig.Config, signer signature.SignerVerifier) context.Context {
	cfg.Signers.KMS = chainsconfig.KMSSigner{KMSRef: handoverRef}
	return context.WithValue(chainsconfig.ToContext(ctx, cfg), handoverKey{}, signer)
}

// withoutHandover returns a context without a signer, for work that may resolve
// references that others wrote, such as the authors of policies.
func withoutHandover(ctx context.Context) context.Context {
	return context.WithValue(ctx, handoverKey{}, nil)
}

// handOver implements kms.ProviderInit. There is no signer in the context if somebody
// else uses the reference.
func handOver(ctx context.Context, _ string, _ crypto.Hash, _ ...signature.RPCOption) (kms.SignerVerifier, error) {
	signer, ok := ctx.Value(handoverKey{}).(signature.SignerVerifier)
	if !ok {
		return nil, errors.New("this reference has a meaning inside of the controller only")
	}
	return handedOver{signer}, nil
}

// handedOver has the methods of kms.SignerVerifier that Chains does not call.
type handedOver struct{ signature.SignerVerifier }

var (
	_ kms.SignerVerifier = handedOver{}
	_ kms.ProviderInit   = handOver
)

var errNotHandedOver = errors.New("only signing and verifying are handed over")

// CreateKey implements kms.SignerVerifier.
func (handedOver) CreateKey(context.Context, string) (crypto.PublicKey, error) {
	return nil, errNotHandedOver
}

// CryptoSigner implements kms.SignerVerifier.
func (handedOver) CryptoSigner(context.Context, func(error)) (crypto.Signer, crypto.SignerOpts, error) {
	return nil, nil, errNotHandedOver
}

// SupportedAlgorithms implements kms.SignerVerifier.
func (handedOver) SupportedAlgorithms() []string { return nil }

// DefaultAlgorithm implements kms.SignerVerifier.
func (handedOver) DefaultAlgorithm() string { return "" }
