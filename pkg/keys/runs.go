// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"context"
	"fmt"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"
	"github.com/tektoncd/chains/pkg/chains/signing"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
)

// RunSigner returns a signer of a type for a run. The signer of type x509 is the
// last good one. For a KMS, each call makes a client, as Chains does, because the
// credentials of a client can expire. The error wraps ErrNoKey or ErrSigner, and
// ErrNotSet if no key is set at all.
func (l *Loader) RunSigner(ctx context.Context, signerType string, settings chainsconfig.KMSSigner) (signature.SignerVerifier, error) {
	switch signerType {
	case signing.TypeX509:
		return l.Ring().FileSigner(signerType)
	case signing.TypeKMS:
		return l.runKMS(ctx, settings)
	default:
		return nil, noKey(signerType, fmt.Errorf("unknown type of signer %q", signerType))
	}
}

func (l *Loader) runKMS(ctx context.Context, settings chainsconfig.KMSSigner) (signature.SignerVerifier, error) {
	if settings.KMSRef == "" {
		return nil, noKey(signing.TypeKMS, fmt.Errorf("%w: signers.kms.kmsref is empty", ErrNotSet))
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	client, err := l.kmsClient(ctx, settings)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSigner, err)
	}
	public, err := client.PublicKey(options.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSigner, kmsError(settings, err))
	}
	id, err := KeyID(public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSigner, kmsError(settings, err))
	}
	if err := l.Ring().mayUse(id); err != nil {
		return nil, noKey(signing.TypeKMS, err)
	}
	return client, nil
}
