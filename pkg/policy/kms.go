// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/trusted-resources/chains-extension/pkg/keys"
)

const (
	// callTimeout bounds one call to a KMS.
	callTimeout = 10 * time.Second
	// maxVerifications bounds the verifications by one key of a KMS at the same
	// time.
	maxVerifications = 16
	// maxCallsOfNamespace and maxCalls bound the calls for the policies of one
	// namespace, and of all. They count calls that were abandoned and have not ended.
	maxCallsOfNamespace, maxCalls = 8, 64
)

// kmsLimits bound the calls to KMS, which tenants choose.
type kmsLimits struct {
	// reads allow one read of a public key at a time: the callers that wait find
	// the key in the cache.
	reads         *keys.CallLimiter
	verifications *keys.CallLimiter
	namespaces    *keys.CallLimiter
	all           *keys.CallLimiter
	waits         *waits
}

func newKMSLimits(patience time.Duration, sources Sources) kmsLimits {
	limits := kmsLimits{
		reads:         keys.NewCallLimiter(callTimeout, 1),
		verifications: keys.NewCallLimiter(callTimeout, maxVerifications),
		namespaces:    keys.NewCallLimiter(callTimeout, maxCallsOfNamespace),
		all:           keys.NewCallLimiter(callTimeout, maxCalls),
		waits:         newWaits(patience, sources.Clock),
	}
	limits.verifications.OnRequest(sources.KMSRequested)
	return limits
}

// slots are what a call for the policies of a namespace takes, besides the slot of
// the key.
func (l kmsLimits) slots(namespace string) []keys.Slot {
	return []keys.Slot{l.namespaces.Slot(namespace), l.all.Slot("")}
}

// kmsKey returns the client of a key in a KMS, with the ID of its public key.
//
// The client verifies signatures, as in Tekton, and not the public key. Some
// clients take hash and padding from the KMS instead of the policy, and the client
// of Vault verifies with the first version of a key, although it returns the
// public key of the latest version.
func (k *Keys) kmsKey(ctx context.Context, namespace string, location keyLocation) readKey {
	cached, found := k.cached(location)
	k.wanted(ctx, found)
	if found {
		return cached
	}
	var key readKey
	err := k.limits.waits.do(ctx, namespace, func(ctx context.Context) (err error) {
		key, err = keys.Call(ctx, k.limits.reads, keys.OperationPublicKey, location.hash.String()+" "+location.kms, func(ctx context.Context) (readKey, error) {
			if key, found := k.cached(location); found { // another caller read the key while this caller waited
				return key, nil
			}
			return k.readKMS(ctx, location), nil
		}, k.limits.slots(namespace)...)
		return err
	})
	if err != nil { // not remembered: it says more about the caller than about the KMS
		key = unavailableKMS(err)
		key.read, key.abandoned = k.clock.Now(), true
	}
	return key
}

// readKMS reads and remembers a key. The caller may be gone when the KMS answers: the
// answer then serves the next caller. When there is no answer in time, that is
// remembered even while a client that ignores its context continues to wait.
func (k *Keys) readKMS(ctx context.Context, location keyLocation) readKey {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	start, began := k.clock.Now(), time.Now()
	late := time.AfterFunc(callTimeout, func() {
		k.requested(ctx, location, began, keys.ErrNoAnswer)
		k.remember(location, start, unavailableKMS(keys.ErrNoAnswer))
	})
	key := k.askKMS(ctx, location)
	if late.Stop() {
		k.requested(ctx, location, began, cmp.Or(key.err, key.unavailable))
	}
	return k.remember(location, start, key)
}

// requested tells the observer that a public key was asked for.
func (k *Keys) requested(ctx context.Context, location keyLocation, began time.Time, err error) {
	if k.sources.KMSRequested != nil {
		k.sources.KMSRequested(ctx, keys.NewRequest(keys.OperationPublicKey, location.kms, began, err))
	}
}

// askKMS returns an error for an unknown KMS, as Tekton does. A KMS that does not
// answer is no error: Tekton calls it only when its key must verify a signature, so
// it must not spoil the other authorities of a policy.
func (k *Keys) askKMS(ctx context.Context, location keyLocation) readKey {
	client, err := kms.Get(context.WithoutCancel(ctx), location.kms, location.hash) // the client may keep the context
	if err != nil {
		return readKey{err: fmt.Errorf("%w from its KMS: %w", errUnavailable, err)}
	}
	public, err := client.PublicKey(options.WithContext(ctx))
	if err != nil {
		return unavailableKMS(err)
	}
	id, err := keys.KeyID(public)
	if err != nil {
		return unavailableKMS(err)
	}
	return readKey{client: keys.NewKMSClient(client, location.kms, k.limits.verifications), keyID: id}
}

func unavailableKMS(err error) readKey {
	return readKey{unavailable: fmt.Errorf("%w from its KMS: %w", errUnavailable, err)}
}

// kmsVerifier verifies signatures for the policies of one namespace.
type kmsVerifier struct {
	signature.Verifier

	waits     *waits
	namespace string
}

func (k *Keys) kmsVerifier(client *keys.KMSClient, namespace string) signature.Verifier {
	return kmsVerifier{client.Within(k.limits.slots(namespace)...), k.limits.waits, namespace}
}

// VerifySignature implements signature.Verifier.
func (v kmsVerifier) VerifySignature(sig, message io.Reader, opts ...signature.VerifyOption) error {
	ctx := context.Background()
	for _, opt := range opts {
		opt.ApplyContext(&ctx)
	}
	return v.waits.do(ctx, v.namespace, func(ctx context.Context) error {
		return v.Verifier.VerifySignature(sig, message, append(slices.Clip(opts), options.WithContext(ctx))...)
	})
}
