// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/hashicorp/vault/api"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/options"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
)

// KMS loads keys of KMS whose version is pinned: what happens to other versions of a key
// changes nothing. KMS is safe for concurrent use.
type KMS struct {
	// auth returns the settings in force.
	auth func() chainsconfig.KMSAuth
	// connects bounds the making of clients, calls the use of these clients.
	connects, calls *CallLimiter
	clouds          []signature.RPCOption

	mu sync.Mutex
	// clients are kept, because that of GCP cannot be closed. There is one for each
	// reference that the specs of KeyRings ever had.
	clients map[string]*kmsConnection
}

// kmsConnection is a client for a reference.
type kmsConnection struct {
	inputs string // settings and credentials that the client was made from
	signer kms.SignerVerifier
	vault  *api.Client // nil if the KMS is another one
}

// NewKMS returns a KMS that reaches Vault with the settings that auth returns. A token in
// the settings is not used: everybody who may read the settings could read the token. The
// clients of clouds find credentials in their environment, and have these options.
func NewKMS(auth func() chainsconfig.KMSAuth, clouds ...signature.RPCOption) *KMS {
	return &KMS{
		auth: auth, clouds: clouds,
		connects: NewCallLimiter(loadTimeout, maxConnecting), calls: NewCallLimiter(signTimeout, maxSigning),
		clients: map[string]*kmsConnection{},
	}
}

// OnRequest makes the KMS tell an observer of each request. Call OnRequest before Key.
func (k *KMS) OnRequest(observe Observer) {
	k.connects.OnRequest(observe)
	k.calls.OnRequest(observe)
}

// Key returns one version of a key. To prove that Tekton can verify its signatures, the key
// signs a test message. Errors, also those of the key, name the reference and the version.
func (k *KMS) Key(ctx context.Context, ref, version string) (*Key, error) {
	if err := ValidateKMS(ref, version); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	key, err := newSigningKey(ctx, &pinnedKey{k, ref, version})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kmsName(ref, version), err)
	}
	key.place = kmsName(ref, version)
	return key, nil
}

// LatestVersion returns the latest version of a key in Vault. It is empty for a KMS whose
// references have the version in them.
func (k *KMS) LatestVersion(ctx context.Context, ref string) (string, error) {
	if !isVault(ref) {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	key, err := use(ctx, k, OperationVersion, ref, func(ctx context.Context, c *kmsConnection) (*transitKey, error) {
		return readTransitKey(ctx, c.vault, ref)
	})
	if err != nil {
		return "", fmt.Errorf("%s: reading the latest version: %w", kmsName(ref, ""), err)
	}
	return key.LatestVersion.String(), nil
}

// pinnedKey signs with one version of a key. The references of all KMS but Vault have the
// version in them.
type pinnedKey struct {
	kms          *KMS
	ref, version string
}

var _ signature.Signer = (*pinnedKey)(nil)

// PublicKey implements signature.PublicKeyProvider.
func (p *pinnedKey) PublicKey(opts ...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return use(contextOf(opts), p.kms, OperationPublicKey, p.ref, func(ctx context.Context, c *kmsConnection) (crypto.PublicKey, error) {
		if c.vault == nil {
			return c.signer.PublicKey(append(slices.Clip(opts), options.WithContext(ctx))...)
		}
		key, err := readTransitKey(ctx, c.vault, p.ref) // sigstore's client returns the latest version only
		if err != nil {
			return nil, err
		}
		return key.publicKey(p.version)
	})
}

// SignMessage implements signature.Signer.
func (p *pinnedKey) SignMessage(message io.Reader, opts ...signature.SignOption) ([]byte, error) {
	content, err := io.ReadAll(message)
	if err != nil {
		return nil, err
	}
	return use(contextOf(opts), p.kms, OperationSign, p.ref, func(ctx context.Context, c *kmsConnection) ([]byte, error) {
		opts := append(slices.Clip(opts), options.WithContext(ctx))
		if c.vault == nil {
			return c.signer.SignMessage(bytes.NewReader(content), opts...)
		}
		signed, err := c.signer.SignMessage(bytes.NewReader(content), append(opts, options.WithKeyVersion(p.version))...)
		if err != nil {
			return nil, explain(ctx, c.vault, p.ref, p.version, err)
		}
		return signed, nil
	})
}

// use calls a KMS within the limits. If Vault does not know the token of a client that was
// used before, the token may have expired: use then makes one more attempt with a new one.
func use[T any](ctx context.Context, k *KMS, operation Operation, ref string, call func(context.Context, *kmsConnection) (T, error)) (T, error) {
	var none T
	for retried := false; ; retried = true {
		client, reused, err := k.connect(ctx, ref)
		if err != nil {
			return none, vaultError(err)
		}
		result, err := Call(ctx, k.calls, operation, ref, func(ctx context.Context) (T, error) { return call(ctx, client) })
		if err == nil {
			return result, nil
		}
		if retried || !reused || !isDenied(err) {
			return none, vaultError(err)
		}
		k.forget(ref, client)
	}
}

// connect returns the client for a reference, and whether the client was used before.
func (k *KMS) connect(ctx context.Context, ref string) (client *kmsConnection, reused bool, err error) {
	auth, inputs := k.auth(), ""
	if isVault(ref) {
		if inputs, err = kmsInputs(chainsconfig.KMSSigner{Auth: auth}); err != nil {
			return nil, false, err
		}
	}
	k.mu.Lock()
	last := k.clients[ref]
	k.mu.Unlock()
	if last != nil && last.inputs == inputs {
		return last, true, nil
	}
	client, err = Call(ctx, k.connects, OperationConnect, ref, func(ctx context.Context) (*kmsConnection, error) {
		if isVault(ref) {
			return connectVault(ctx, auth, ref)
		}
		// The client of Azure keeps the context for its calls.
		signer, err := kms.Get(context.WithoutCancel(ctx), ref, crypto.SHA256, k.clouds...)
		return &kmsConnection{signer: signer}, err
	})
	if err != nil {
		return nil, false, err
	}
	client.inputs = inputs
	k.mu.Lock()
	defer k.mu.Unlock()
	k.clients[ref] = client
	return client, false, nil
}

// forget makes the next call use a new client instead of this one.
func (k *KMS) forget(ref string, client *kmsConnection) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.clients[ref] == client {
		delete(k.clients, ref)
	}
}

// isDenied reports that Vault refused a token.
func isDenied(err error) bool {
	var answer *api.ResponseError
	return errors.As(err, &answer) && answer.StatusCode == statusDenied
}
