package policy

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources/verifier"
	"golang.org/x/sync/singleflight"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// How long a key that was read is used before it is read again.
const (
	MaxSecretAge  = 10 * time.Second
	MaxKMSAge     = 5 * time.Minute
	MaxFailureAge = 5 * time.Second
)

const maxKeysCached = 1000

// Secrets reads the data of one Secret. The error is of any kind.
type Secrets interface {
	Secret(ctx context.Context, namespace, name string) (map[string][]byte, error)
}

// Keys reads the public keys that policies refer to, and keeps them for a
// while.
type Keys struct {
	secrets Secrets
	clock   clock.PassiveClock
	read    *ttlcache.Cache[reference, material]

	fetching singleflight.Group // from key servers
}

// reference is where a key is; what it is of is set.
type reference struct {
	namespace, secret string
	kms               string
	hash              crypto.Hash // of kms
}

// material is what was found there.
type material struct {
	pem  []byte // of a Secret
	kms  remote
	err  error
	read time.Time
}

// NewKeys makes Keys that have read none yet.
func NewKeys(secrets Secrets, clock clock.PassiveClock) *Keys {
	return &Keys{secrets: secrets, clock: clock, read: ttlcache.New(
		ttlcache.WithCapacity[reference, material](maxKeysCached))}
}

// loaded are the keys of one policy.
type loaded struct {
	authorities []authority
	problem     Reason
	message     string
	expires     time.Time // zero for never
	kmsRead     time.Time // zero without a KMS
}

// errUnavailable says that a key may be there but cannot be read.
var errUnavailable = errors.New("the key cannot be read")

// load accepts and refuses keys as Tekton does: one key that cannot be used
// spoils its policy.
func (k *Keys) load(ctx context.Context, p *v1alpha1.VerificationPolicy) loaded {
	var l loaded
	for _, a := range p.Spec.Authorities {
		trusted, err := k.authority(ctx, a.Key, &l)
		if err != nil {
			return l.fail(fmt.Errorf("authority %q: %w", a.Name, err))
		}
		if trusted.problem != "" {
			trusted.problem = fmt.Sprintf("authority %q: %s", a.Name, trusted.problem)
		}
		l.authorities = append(l.authorities, trusted)
	}
	if len(l.authorities) == 0 {
		return l.fail(verifier.ErrEmptyPublicKeys)
	}
	return l
}

func (l loaded) fail(err error) loaded {
	l.authorities, l.problem, l.message = nil, PolicyInvalid, err.Error()
	if errors.Is(err, errUnavailable) {
		l.problem = KeyUnavailable
	}
	return l
}

func (k *Keys) authority(ctx context.Context, key *v1alpha1.KeyRef, l *loaded) (authority, error) {
	if key == nil {
		return authority{}, verifier.ErrEmptyKey // Tekton follows the nil pointer
	}
	hash, known := v1alpha1.SupportedSignatureAlgorithms[v1alpha1.HashAlgorithm(strings.ToLower(string(key.HashAlgorithm)))]
	if !known {
		return authority{}, fmt.Errorf("%w: %q", verifier.ErrAlgorithmInvalid, key.HashAlgorithm)
	}
	switch {
	case key.Data != "":
		return fromPEM(ctx, key.Data, key.HashAlgorithm, hash)
	case key.SecretRef != nil:
		m := k.get(ctx, reference{namespace: key.SecretRef.Namespace, secret: key.SecretRef.Name}, k.fromSecret)
		l.holdsUntil(m, MaxSecretAge)
		if m.err != nil {
			return authority{}, m.err
		}
		return fromPEM(ctx, string(m.pem), key.HashAlgorithm, hash)
	case key.KMS != "":
		m := k.get(ctx, reference{kms: key.KMS, hash: hash}, k.fromKMS)
		l.holdsUntil(m, MaxKMSAge)
		if l.kmsRead.IsZero() || m.read.Before(l.kmsRead) {
			l.kmsRead = m.read
		}
		return m.kms.authority(key.KMS, hash), m.err
	default:
		return authority{}, verifier.ErrEmptyKey
	}
}

// fromPEM has Tekton's own verifier load the key.
func fromPEM(ctx context.Context, pem string, name v1alpha1.HashAlgorithm, hash crypto.Hash) (authority, error) {
	key := &v1alpha1.KeyRef{Data: pem, HashAlgorithm: name}
	verifiers, err := verifier.FromPolicy(ctx, nil, &v1alpha1.VerificationPolicy{
		Spec: v1alpha1.VerificationPolicySpec{Authorities: []v1alpha1.Authority{{Key: key}}},
	}) // needs no client: the key is not in a Secret
	if err != nil {
		return authority{}, err
	}
	public, err := verifiers[0].PublicKey()
	if err != nil {
		return authority{}, err
	}
	id, err := keys.KeyID(public)
	return authority{key: fingerprint{id: id, hash: hash}, verifier: verifiers[0]}, err
}

func (l *loaded) holdsUntil(m material, age time.Duration) {
	if m.failed() {
		age = MaxFailureAge
	}
	if until := m.read.Add(age); l.expires.IsZero() || until.Before(l.expires) {
		l.expires = until
	}
}

// get reads a key unless it was read a short while ago.
func (k *Keys) get(ctx context.Context, ref reference, read func(context.Context, reference) material) material {
	age := MaxSecretAge
	if ref.kms != "" {
		age = MaxKMSAge
	}
	now := k.clock.Now()
	if item := k.read.Get(ref); item != nil {
		m := item.Value()
		if m.failed() {
			age = MaxFailureAge
		}
		if now.Sub(m.read) < age {
			return m
		}
	}
	m := read(ctx, ref)
	m.read = now
	if m.failed() {
		m.read = k.clock.Now() // it may have taken longer than it holds
	}
	if ctx.Err() == nil { // a caller who gave up says nothing about the key
		k.read.Set(ref, m, ttlcache.NoTTL)
	}
	return m
}

// forgetKMS makes the keys of key servers be read again that were read until
// then.
func (k *Keys) forgetKMS(until time.Time) {
	for ref, item := range k.read.Items() {
		if ref.kms != "" && !item.Value().read.After(until) {
			k.read.Delete(ref)
		}
	}
}

func (m material) failed() bool { return m.err != nil || m.kms.problem != "" }

// fromSecret takes the one entry of a Secret, as Tekton does.
func (k *Keys) fromSecret(ctx context.Context, ref reference) material {
	data, err := k.secrets.Secret(ctx, ref.namespace, ref.secret)
	if err != nil {
		return material{err: fmt.Errorf("%w: Secret %s/%s: %w", errUnavailable, ref.namespace, ref.secret, err)}
	}
	if len(data) > 1 {
		return material{err: fmt.Errorf("Secret %s/%s: %w: found %d entries, expected one",
			ref.namespace, ref.secret, verifier.ErrMultipleSecretData, len(data))}
	}
	for _, pem := range data {
		if len(pem) > 0 {
			return material{pem: pem}
		}
	}
	return material{err: fmt.Errorf("Secret %s/%s: %w: expected one entry with a public key",
		ref.namespace, ref.secret, verifier.ErrEmptySecretData)}
}
