// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"crypto"
	"fmt"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources/verifier"
)

// secretKey returns the key in a Secret, for a policy of policyNamespace.
func (k *Keys) secretKey(ctx context.Context, policyNamespace string, location keyLocation) readKey {
	key, found := k.cached(location)
	k.wanted(ctx, found)
	if !found {
		key = k.readSecret(ctx, location)
	}
	if key.err != nil && location.namespace != policyNamespace {
		key.err = foreignSecretError(location)
	}
	return key
}

// foreignSecretError is the only error about a Secret of another namespace than the
// policy's, whether the Secret is missing, is forbidden, or has other content than a
// public key. Otherwise the author of a policy could learn from Events and
// attestations which Secrets exist. For the same reason the key counts as
// unavailable in each case, and not as invalid.
func foreignSecretError(location keyLocation) error {
	return fmt.Errorf("%w: Secret %s/%s of another namespace: expected a Secret with one entry, a public key in PEM; "+
		"the log of the controller says what was found", errUnavailable, location.namespace, location.secret)
}

// readSecret reads and remembers the key in a Secret.
func (k *Keys) readSecret(ctx context.Context, location keyLocation) readKey {
	start := k.clock.Now()
	pem, err := k.secretPEM(ctx, location)
	key := readKey{pem: pem, err: err}
	if ctx.Err() != nil { // an error after the end of the context says nothing about the key
		key.setRead(start, k.clock)
		return key
	}
	if err != nil && k.sources.SecretUnusable != nil {
		k.sources.SecretUnusable(ctx, location.namespace, location.secret, err)
	}
	return k.remember(location, start, key)
}

// secretPEM reads the only entry of a Secret. As in Tekton, more entries are an
// error, and so is an entry that is no public key.
func (k *Keys) secretPEM(ctx context.Context, location keyLocation) ([]byte, error) {
	data, err := k.sources.Secrets.Secret(ctx, location.namespace, location.secret)
	if err != nil {
		return nil, fmt.Errorf("%w: Secret %s/%s: %w", errUnavailable, location.namespace, location.secret, err)
	}
	if len(data) > 1 {
		return nil, fmt.Errorf("Secret %s/%s: %w: found %d entries, expected one",
			location.namespace, location.secret, verifier.ErrMultipleSecretData, len(data))
	}
	for _, pem := range data {
		if len(pem) == 0 {
			continue
		}
		if _, err := parsePEM(ctx, string(pem), &v1alpha1.KeyRef{}, crypto.SHA256); err != nil {
			return nil, fmt.Errorf("Secret %s/%s: %w", location.namespace, location.secret, err)
		}
		return pem, nil
	}
	return nil, fmt.Errorf("Secret %s/%s: %w: expected one entry with a public key",
		location.namespace, location.secret, verifier.ErrEmptySecretData)
}
