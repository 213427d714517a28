// SPDX-License-Identifier: Apache-2.0

package clusterpolicies

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/options"
	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// kmsTimeout bounds the read of one key of a KMS.
const kmsTimeout = 10 * time.Second

// Keys reads the public keys of authorities. It has one caller at a time.
type Keys struct {
	// Namespace is that of the controller, which has the Secrets.
	Namespace string
	Secrets   policy.Secrets
	Clock     clock.PassiveClock
	// KMSRequested, if not nil, is told of each request to a KMS.
	KMSRequested keys.Observer

	once    sync.Once
	limiter *keys.CallLimiter
	fromKMS map[place]kmsKey
}

// place is a key in a KMS.
type place struct {
	ref  string
	hash tekton.HashAlgorithm
}

// kmsKey is the last read of a key in a KMS.
type kmsKey struct {
	publicKey
	err   error
	again time.Time
}

type publicKey struct{ PublicKey, KeyID string }

func (k *Keys) read(ctx context.Context, a v1alpha1.PolicyAuthority) (publicKey, error) {
	switch {
	case a.Data != "":
		return parse(ctx, a.Data)
	case a.SecretRef != nil:
		data, err := k.Secrets.Secret(ctx, k.Namespace, a.SecretRef.Name)
		if err != nil {
			return publicKey{}, fmt.Errorf("the Secret %s/%s: %w", k.Namespace, a.SecretRef.Name, err)
		}
		found, ok := data[a.SecretRef.Key]
		if !ok {
			return publicKey{}, fmt.Errorf("the Secret %s/%s has no entry %q", k.Namespace, a.SecretRef.Name, a.SecretRef.Key)
		}
		read, err := parse(ctx, string(found))
		if err != nil {
			return read, fmt.Errorf("entry %q of Secret %s/%s: %w", a.SecretRef.Key, k.Namespace, a.SecretRef.Name, err)
		}
		return read, nil
	default:
		return k.readKMS(ctx, place{a.KMS, a.HashAlgorithm})
	}
}

// parse returns a public key in the form in which it is published. Data that is no public key
// is not repeated in the error: it may be a secret.
func parse(ctx context.Context, data string) (publicKey, error) {
	key, err := policy.ParsePublicKey(ctx, data)
	if err != nil {
		return publicKey{}, fmt.Errorf("expected a public key in PEM: %w", err)
	}
	id, err := keys.KeyID(key)
	if err != nil {
		return publicKey{}, err
	}
	encoded, err := cryptoutils.MarshalPublicKeyToPEM(key)
	return publicKey{string(encoded), id}, err
}

// readKMS returns a key of a KMS. It asks the KMS again after some time, and sooner after an
// error.
func (k *Keys) readKMS(ctx context.Context, at place) (publicKey, error) {
	k.once.Do(func() {
		k.limiter, k.fromKMS = keys.NewCallLimiter(kmsTimeout, 1), map[place]kmsKey{}
		k.limiter.OnRequest(k.KMSRequested)
	})
	if last, found := k.fromKMS[at]; found && k.Clock.Now().Before(last.again) {
		return last.publicKey, last.err
	}
	read, err := keys.Call(ctx, k.limiter, keys.OperationPublicKey, at.ref, func(ctx context.Context) (publicKey, error) {
		client, err := kms.Get(context.WithoutCancel(ctx), at.ref, tekton.SupportedSignatureAlgorithms[at.hash])
		if err != nil {
			return publicKey{}, err
		}
		key, err := client.PublicKey(options.WithContext(ctx))
		if err != nil {
			return publicKey{}, err
		}
		encoded, err := cryptoutils.MarshalPublicKeyToPEM(key)
		if err != nil {
			return publicKey{}, err
		}
		return parse(ctx, string(encoded))
	})
	age := policy.MaxKMSAge
	if err != nil {
		err, age = fmt.Errorf("%s: %w", at.ref, err), policy.MaxFailureAge
	}
	k.fromKMS[at] = kmsKey{read, err, k.Clock.Now().Add(age)}
	return read, err
}

// lastKey returns the key that an authority had when its policy was put into force last. It is
// empty if the authority was another one.
func lastKey(ctx context.Context, last *policy.ClusterPolicy, a v1alpha1.PolicyAuthority) publicKey {
	if last == nil || a.Data != "" {
		return publicKey{}
	}
	for _, before := range last.Spec.Authorities {
		if equality.Semantic.DeepEqual(before, a) {
			read, err := parse(ctx, last.PublicKeys[a.Name])
			if err == nil {
				return read
			}
		}
	}
	return publicKey{}
}
