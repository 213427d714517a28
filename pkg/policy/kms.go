package policy

import (
	"context"
	"crypto"
	"fmt"
	"io"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/options"
	"golang.org/x/sync/singleflight"

	"github.com/trusted-resources/chains-extension/pkg/keys"
)

const kmsTimeout = 10 * time.Second

// remote verifies with a key of a KMS. The client of the KMS decides, as in
// Tekton, and not the public key: some clients take hash and padding from the
// server rather than from the policy, and that of Vault has the server verify
// with the first version of the key, whatever the latest is.
type remote struct {
	kms.SignerVerifier
	id      string // of the public key
	problem string // why that cannot be read
}

// fromKMS asks a server once for all who want the same key: one that hangs must
// not gather callers.
func (k *Keys) fromKMS(ctx context.Context, ref reference) material {
	get := func() (any, error) { return fetch(context.WithoutCancel(ctx), ref), nil }
	m, err := bounded(ctx, k.fetching.DoChan(ref.hash.String()+" "+ref.kms, get))
	if err != nil {
		return material{kms: remote{problem: unanswered(err)}}
	}
	return m.(material)
}

// fetch takes an unknown KMS as an error, as Tekton does. One that does not
// answer spoils nothing: Tekton asks it no sooner than it verifies.
func fetch(ctx context.Context, ref reference) material {
	client, err := kms.Get(ctx, ref.kms, ref.hash) // it may keep the context
	if err != nil {
		return material{err: fmt.Errorf("%w from its KMS: %w", errUnavailable, err)}
	}
	ctx, cancel := context.WithTimeout(ctx, kmsTimeout)
	defer cancel()
	public, err := client.PublicKey(options.WithContext(ctx))
	if err != nil {
		return material{kms: remote{problem: unanswered(err)}}
	}
	id, err := keys.KeyID(public)
	if err != nil {
		return material{kms: remote{problem: unanswered(err)}}
	}
	return material{kms: remote{SignerVerifier: client, id: id}}
}

func unanswered(err error) string { return fmt.Sprintf("%s from its KMS: %s", errUnavailable, err) }

func (r remote) authority(ref string, hash crypto.Hash) authority {
	return authority{key: fingerprint{id: r.id, hash: hash, kms: ref}, verifier: r, problem: r.problem}
}

// VerifySignature ends with its context at the latest.
func (r remote) VerifySignature(sig, message io.Reader, opts ...signature.VerifyOption) error {
	ctx := context.Background()
	for _, opt := range opts {
		opt.ApplyContext(&ctx)
	}
	done := make(chan singleflight.Result, 1)
	go func() { done <- singleflight.Result{Err: r.SignerVerifier.VerifySignature(sig, message, opts...)} }()
	_, err := bounded(ctx, done)
	return err
}

// bounded gives up after kmsTimeout: not every client minds its context.
func bounded(ctx context.Context, results <-chan singleflight.Result) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, kmsTimeout)
	defer cancel()
	select {
	case result := <-results:
		return result.Val, result.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
