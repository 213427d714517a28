// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"fmt"
	"time"

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
)

// kmsLimits bound the calls to each key of a KMS.
type kmsLimits struct {
	// reads allow one read of a public key at a time: the callers that wait find
	// the key in the cache.
	reads         *keys.CallLimiter
	verifications *keys.CallLimiter
}

func newKMSLimits() kmsLimits {
	return kmsLimits{
		reads:         keys.NewCallLimiter(callTimeout, 1),
		verifications: keys.NewCallLimiter(callTimeout, maxVerifications),
	}
}

// kmsKey returns the client of a key in a KMS, with the ID of its public key.
//
// The client verifies signatures, as in Tekton, and not the public key. Some
// clients take hash and padding from the KMS instead of the policy, and the client
// of Vault verifies with the first version of a key, although it returns the
// public key of the latest version.
func (k *Keys) kmsKey(ctx context.Context, location keyLocation) readKey {
	if key, found := k.cached(location); found {
		return key
	}
	key, err := keys.Call(ctx, k.limits.reads, location.hash.String()+" "+location.kms, func(ctx context.Context) (readKey, error) {
		if key, found := k.cached(location); found { // another caller read the key while this caller waited
			return key, nil
		}
		start := k.clock.Now()
		return k.remember(ctx, location, start, k.readKMS(ctx, location)), nil
	})
	if err != nil {
		return k.remember(ctx, location, k.clock.Now(), unavailableKMS(err))
	}
	return key
}

// readKMS returns an error for an unknown KMS, as Tekton does. A KMS that does not
// answer is no error: Tekton calls it only when its key must verify a signature, so
// it must not spoil the other authorities of a policy.
func (k *Keys) readKMS(ctx context.Context, location keyLocation) readKey {
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
