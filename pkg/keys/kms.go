// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"context"
	"crypto"
	"io"
	"slices"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"
)

// KMSClient is the client of one key of a KMS. A CallLimiter bounds every call:
// an error wraps ErrNoAnswer when the KMS does not answer before the context in
// the options ends, or the timeout of the limiter is over.
type KMSClient struct {
	client  signature.SignerVerifier
	keyRef  string
	limiter *CallLimiter
	within  []Slot
}

var _ signature.SignerVerifier = (*KMSClient)(nil)

// NewKMSClient returns a client whose calls limiter bounds. keyRef is the
// reference to the key, such as "hashivault://name".
func NewKMSClient(client signature.SignerVerifier, keyRef string, limiter *CallLimiter) *KMSClient {
	return &KMSClient{client: client, keyRef: keyRef, limiter: limiter}
}

// Within returns a client of the same key whose calls also take these slots.
func (c *KMSClient) Within(slots ...Slot) *KMSClient {
	bounded := *c
	bounded.within = append(slices.Clip(c.within), slots...)
	return &bounded
}

// PublicKey implements signature.PublicKeyProvider.
func (c *KMSClient) PublicKey(opts ...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return Call(contextOf(opts), c.limiter, OperationPublicKey, c.keyRef, func(ctx context.Context) (crypto.PublicKey, error) {
		return c.client.PublicKey(append(slices.Clip(opts), options.WithContext(ctx))...)
	}, c.within...)
}

// SignMessage implements signature.Signer.
func (c *KMSClient) SignMessage(message io.Reader, opts ...signature.SignOption) ([]byte, error) {
	return Call(contextOf(opts), c.limiter, OperationSign, c.keyRef, func(ctx context.Context) ([]byte, error) {
		return c.client.SignMessage(message, append(slices.Clip(opts), options.WithContext(ctx))...)
	}, c.within...)
}

// VerifySignature implements signature.Verifier.
func (c *KMSClient) VerifySignature(sig, message io.Reader, opts ...signature.VerifyOption) error {
	_, err := Call(contextOf(opts), c.limiter, OperationVerify, c.keyRef, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.client.VerifySignature(sig, message, append(slices.Clip(opts), options.WithContext(ctx))...)
	}, c.within...)
	return err
}

// contextOf returns the context that the options of a call carry.
func contextOf[O interface{ ApplyContext(*context.Context) }](opts []O) context.Context {
	ctx := context.Background()
	for _, opt := range opts {
		opt.ApplyContext(&ctx)
	}
	return ctx
}
