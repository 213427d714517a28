package verify

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/options"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources/verifier"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/keyring"
)

// How long a key that was read is used before it is read again.
const (
	MaxSecretAge  = 10 * time.Second
	MaxKMSAge     = 5 * time.Minute
	MaxFailureAge = 5 * time.Second
)

const (
	kmsTimeout    = 10 * time.Second
	maxKeysCached = 1000
)

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
}

// reference is where a key is; what it is of is set.
type reference struct {
	namespace, secret string
	kms               string
	hash              crypto.Hash // of kms
}

// material is what was found there.
type material struct {
	pem []byte
	err error
	at  time.Time
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

var (
	// errUnavailable says that a key may be there but cannot be read.
	errUnavailable = errors.New("the key cannot be read")
	// errNoAnswer says so of a key whose KMS is known and does not give it.
	errNoAnswer = fmt.Errorf("%w from its KMS", errUnavailable)
)

// load takes each key to be inline and has Tekton's own verifier load them: so
// a key is accepted or refused as Tekton does it, and one key that cannot be
// used spoils its policy. A KMS that does not answer spoils nothing, because
// Tekton asks it no sooner than it verifies: other authorities still count.
func (k *Keys) load(ctx context.Context, p *v1alpha1.VerificationPolicy) loaded {
	var l loaded
	inline := &v1alpha1.VerificationPolicy{ObjectMeta: p.ObjectMeta}
	hashes := make([]crypto.Hash, 0, len(p.Spec.Authorities))
	for _, a := range p.Spec.Authorities {
		key, hash, err := k.inline(ctx, a.Key, &l)
		if err != nil {
			err = fmt.Errorf("authority %q: %w", a.Name, err)
			if errors.Is(err, errNoAnswer) {
				l.authorities = append(l.authorities, authority{problem: err.Error()})
				continue
			}
			return l.fail(err)
		}
		hashes = append(hashes, hash)
		inline.Spec.Authorities = append(inline.Spec.Authorities, v1alpha1.Authority{Name: a.Name, Key: key})
	}
	if len(hashes) == 0 && len(l.authorities) > 0 {
		return l
	}
	verifiers, err := verifier.FromPolicy(ctx, nil, inline) // needs no client: no key is in a Secret
	if err != nil {
		return l.fail(err)
	}
	for i, v := range verifiers {
		public, err := v.PublicKey()
		if err != nil {
			return l.fail(fmt.Errorf("authority %q: %w", inline.Spec.Authorities[i].Name, err))
		}
		id, err := keyring.KeyID(public)
		if err != nil {
			return l.fail(fmt.Errorf("authority %q: %w", inline.Spec.Authorities[i].Name, err))
		}
		l.authorities = append(l.authorities, authority{key: fingerprint{id, hashes[i]}, verifier: v})
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

// inline replaces a reference to a key by the key.
func (k *Keys) inline(ctx context.Context, key *v1alpha1.KeyRef, l *loaded) (*v1alpha1.KeyRef, crypto.Hash, error) {
	if key == nil {
		return nil, 0, verifier.ErrEmptyKey // Tekton follows the nil pointer
	}
	hash, known := v1alpha1.SupportedSignatureAlgorithms[v1alpha1.HashAlgorithm(strings.ToLower(string(key.HashAlgorithm)))]
	if !known {
		return nil, 0, fmt.Errorf("%w: %q", verifier.ErrAlgorithmInvalid, key.HashAlgorithm)
	}
	var m material
	switch {
	case key.Data != "":
		return key, hash, nil
	case key.SecretRef != nil:
		m = k.get(ctx, reference{namespace: key.SecretRef.Namespace, secret: key.SecretRef.Name}, k.fromSecret)
		l.holdsUntil(m, MaxSecretAge)
	case key.KMS != "":
		m = k.get(ctx, reference{kms: key.KMS, hash: hash}, k.fromKMS)
		l.holdsUntil(m, MaxKMSAge)
		if l.kmsRead.IsZero() || m.at.Before(l.kmsRead) {
			l.kmsRead = m.at
		}
	default:
		return nil, 0, verifier.ErrEmptyKey
	}
	if m.err != nil {
		return nil, 0, m.err
	}
	return &v1alpha1.KeyRef{Data: string(m.pem), HashAlgorithm: key.HashAlgorithm}, hash, nil
}

func (l *loaded) holdsUntil(m material, age time.Duration) {
	if m.err != nil {
		age = MaxFailureAge
	}
	if until := m.at.Add(age); l.expires.IsZero() || until.Before(l.expires) {
		l.expires = until
	}
}

// get reads a key unless it was read a short while ago.
func (k *Keys) get(ctx context.Context, ref reference, read func(context.Context, reference) ([]byte, error)) material {
	age := MaxSecretAge
	if ref.kms != "" {
		age = MaxKMSAge
	}
	now := k.clock.Now()
	if item := k.read.Get(ref); item != nil {
		m := item.Value()
		if m.err != nil {
			age = MaxFailureAge
		}
		if now.Sub(m.at) < age {
			return m
		}
	}
	pem, err := read(ctx, ref)
	m := material{pem: pem, err: err, at: now}
	if err != nil {
		m.at = k.clock.Now() // it may have taken longer than it holds
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
		if ref.kms != "" && !item.Value().at.After(until) {
			k.read.Delete(ref)
		}
	}
}

// fromSecret takes the one entry of a Secret, as Tekton does.
func (k *Keys) fromSecret(ctx context.Context, ref reference) ([]byte, error) {
	data, err := k.secrets.Secret(ctx, ref.namespace, ref.secret)
	if err != nil {
		return nil, fmt.Errorf("%w: Secret %s/%s: %w", errUnavailable, ref.namespace, ref.secret, err)
	}
	if len(data) > 1 {
		return nil, fmt.Errorf("Secret %s/%s: %w: found %d entries, expected one", ref.namespace, ref.secret, verifier.ErrMultipleSecretData, len(data))
	}
	for _, pem := range data {
		if len(pem) > 0 {
			return pem, nil
		}
	}
	return nil, fmt.Errorf("Secret %s/%s: %w: expected one entry with a public key", ref.namespace, ref.secret, verifier.ErrEmptySecretData)
}

// fromKMS fetches a public key once, where Tekton may ask the server for each
// signature.
func (k *Keys) fromKMS(ctx context.Context, ref reference) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, kmsTimeout)
	defer cancel()
	type answer struct {
		pem []byte
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		pem, err := publicKey(ctx, ref)
		answers <- answer{pem, err}
	}()
	select {
	case a := <-answers:
		return a.pem, a.err
	case <-ctx.Done(): // not every client of a KMS minds its context
		return nil, fmt.Errorf("%w: %w", errNoAnswer, ctx.Err())
	}
}

func publicKey(ctx context.Context, ref reference) ([]byte, error) {
	server, err := kms.Get(ctx, ref.kms, ref.hash)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnavailable, err)
	}
	public, err := server.PublicKey(options.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	return cryptoutils.MarshalPublicKeyToPEM(public)
}
