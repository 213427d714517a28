// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources/verifier"

	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// errUnavailable means that a key may exist but cannot be read now.
var errUnavailable = errors.New("the key cannot be read")

// authority is the public key of an authority.
type authority struct {
	id       authorityID
	verifier signature.Verifier
	// unavailable is the reason why the key verifies nothing now: its KMS does not
	// answer. It wraps errUnavailable.
	unavailable error
	lifetime
}

// authorityID identifies the signatures that an authority verifies.
type authorityID struct {
	keyID string      // as keys.KeyID returns it
	hash  crypto.Hash // of the message
	kms   string      // reference to the KMS that verifies, if any
}

// lifetime says how long keys may be used.
type lifetime struct {
	expires   time.Time // when to read the keys again; zero for never
	oldestKMS time.Time // when the oldest key from a KMS was read; zero without a KMS
}

// add shortens the lifetime to that of more keys.
func (l *lifetime) add(more lifetime) {
	l.expires = earlier(l.expires, more.expires)
	l.oldestKMS = earlier(l.oldestKMS, more.oldestKMS)
}

// earlier returns the earlier time; zero means none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// policyKeys are the keys of one policy, read at one time. They are immutable.
type policyKeys struct {
	authorities []authority
	access      Access // that the keys were read with
	problem     Reason // why there are no authorities
	message     string
	digest      [sha256.Size]byte // of the policy and its keys
	lifetime
}

// load reads the keys of a policy. As in Tekton, one key that is not usable makes
// the policy fail.
func (k *Keys) load(ctx context.Context, p *v1alpha1.VerificationPolicy) *policyKeys {
	loaded := &policyKeys{access: k.access(), authorities: make([]authority, 0, len(p.Spec.Authorities))}
	for _, a := range p.Spec.Authorities {
		read, err := k.authority(ctx, loaded.access, p.Namespace, a.Key)
		loaded.add(read.lifetime)
		if err != nil {
			return loaded.unusable(p, fmt.Errorf("authority %q: %w", a.Name, err))
		}
		if read.unavailable != nil {
			read.unavailable = fmt.Errorf("authority %q: %w", a.Name, read.unavailable)
		}
		loaded.authorities = append(loaded.authorities, read)
	}
	if len(loaded.authorities) == 0 {
		return loaded.unusable(p, verifier.ErrEmptyPublicKeys)
	}
	loaded.setDigest(p)
	return loaded
}

func (k *policyKeys) unusable(p *v1alpha1.VerificationPolicy, err error) *policyKeys {
	k.authorities, k.problem, k.message = nil, PolicyInvalid, err.Error()
	switch {
	case errors.Is(err, errNotAllowed):
		k.problem = KeyNotAllowed
	case errors.Is(err, errUnavailable):
		k.problem = KeyUnavailable
	}
	k.setDigest(p)
	return k
}

// unanswered returns why keys of a KMS are not available.
func (k *policyKeys) unanswered() error {
	errs := make([]error, 0, len(k.authorities))
	for _, a := range k.authorities {
		errs = append(errs, a.unavailable)
	}
	return errors.Join(errs...)
}

// setDigest computes the digest of all facts that a verdict of the policy depends
// on, besides the input.
func (k *policyKeys) setDigest(p *v1alpha1.VerificationPolicy) {
	facts := appendStrings(nil, string(p.UID), p.Name, p.ResourceVersion, string(k.problem), k.message)
	for _, a := range k.authorities {
		facts = appendStrings(facts, a.id.keyID, a.id.hash.String(), a.id.kms)
		if a.unavailable != nil {
			facts = appendStrings(facts, a.unavailable.Error())
		}
	}
	k.digest = sha256.Sum256(facts)
}

// appendStrings appends each string after its length, so that different strings
// do not give the same bytes.
func appendStrings(facts []byte, values ...string) []byte {
	for _, value := range values {
		facts = binary.BigEndian.AppendUint64(facts, uint64(len(value)))
		facts = append(facts, value...)
	}
	return facts
}

// matchKeys are the keys of all policies that match one source. They are
// immutable.
type matchKeys struct {
	byPolicy []*policyKeys // in the order of match.policies
	// own and shadowed are the keys of these matches, if there are any.
	own, shadowed *matchKeys
	access        Access // that the keys were read with
	digest        [sha256.Size]byte
	lifetime
}

func loadMatchKeys(ctx context.Context, m *match, keys *Keys) *matchKeys {
	loaded := &matchKeys{access: keys.access(), byPolicy: make([]*policyKeys, 0, len(m.policies))}
	facts := make([]byte, 0, len(m.policies)*sha256.Size)
	for _, p := range m.policies {
		if m.invalid != nil { // the verdict needs no keys
			facts = appendStrings(facts, "invalid", string(p.object.UID), p.object.Name, p.object.ResourceVersion, p.revision().SpecSHA256)
			break
		}
		ofPolicy := p.currentKeys(ctx, keys)
		loaded.byPolicy = append(loaded.byPolicy, ofPolicy)
		loaded.add(ofPolicy.lifetime)
		facts = append(facts, ofPolicy.digest[:]...)
		facts = appendStrings(facts, p.revision().SpecSHA256) // a resourceVersion may come again after etcd was restored
	}
	loaded.own, facts = loaded.with(ctx, "own", m.own, keys, facts)
	loaded.shadowed, facts = loaded.with(ctx, "shadowed", m.shadowed, keys, facts)
	loaded.digest = sha256.Sum256(facts)
	return loaded
}

// with loads the keys of another match that a verdict shows, and appends what the verdict
// depends on.
func (k *matchKeys) with(ctx context.Context, role string, other *match, keys *Keys, facts []byte) (*matchKeys, []byte) {
	if other == nil {
		return nil, facts
	}
	loaded := other.currentKeys(ctx, keys)
	k.add(loaded.lifetime)
	return loaded, append(appendStrings(facts, role), loaded.digest[:]...)
}

// authority reads the key of one authority of a policy in a namespace. The lifetime
// of the result is set even when there is an error.
func (k *Keys) authority(ctx context.Context, access Access, namespace string, key *v1alpha1.KeyRef) (authority, error) {
	if key == nil {
		return authority{}, verifier.ErrEmptyKey // Tekton's verifier panics
	}
	hash, known := v1alpha1.SupportedSignatureAlgorithms[v1alpha1.HashAlgorithm(strings.ToLower(string(key.HashAlgorithm)))]
	if !known {
		return authority{}, fmt.Errorf("%w: %q", verifier.ErrAlgorithmInvalid, key.HashAlgorithm)
	}
	switch {
	case key.Data != "":
		return parsePEM(ctx, key.Data, key, hash)
	case key.SecretRef != nil:
		if err := access.AllowSecret(namespace, key.SecretRef.Namespace); err != nil {
			return authority{}, fmt.Errorf("%w: %w", errNotAllowed, err)
		}
		return k.secretAuthority(ctx, namespace, key, hash)
	case key.KMS != "":
		if err := access.AllowKMS(key.KMS); err != nil {
			return authority{}, fmt.Errorf("%w: %w", errNotAllowed, err)
		}
		return k.kmsAuthority(ctx, namespace, key, hash)
	default:
		return authority{}, verifier.ErrEmptyKey
	}
}

// Bounds of public keys. The time of a verification grows with the square of the
// bits: it takes milliseconds with maxRSA, and minutes with what fits into a policy.
const (
	maxPEM = 16 << 10 // bytes
	maxRSA = 16 << 10 // bits
)

func (k *Keys) secretAuthority(ctx context.Context, namespace string, key *v1alpha1.KeyRef, hash crypto.Hash) (authority, error) {
	location := keyLocation{namespace: key.SecretRef.Namespace, secret: key.SecretRef.Name}
	read := k.secretKey(ctx, namespace, location)
	if read.err != nil {
		return authority{lifetime: read.lifetime()}, read.err
	}
	a, err := parsePEM(ctx, string(read.pem), key, hash)
	if err != nil && location.namespace != namespace {
		err = foreignSecretError(location)
	}
	a.lifetime = read.lifetime()
	return a, err
}

func (k *Keys) kmsAuthority(ctx context.Context, namespace string, key *v1alpha1.KeyRef, hash crypto.Hash) (authority, error) {
	read := k.kmsKey(ctx, namespace, keyLocation{kms: key.KMS, hash: hash})
	a := authority{
		id:          authorityID{keyID: read.keyID, hash: hash, kms: key.KMS},
		unavailable: read.unavailable, lifetime: read.lifetime(),
	}
	if read.client != nil {
		a.verifier = k.kmsVerifier(read.client, namespace)
	}
	return a, read.err
}

// ParsePublicKey returns a public key in PEM, if a policy may have the key.
func ParsePublicKey(ctx context.Context, pem string) (crypto.PublicKey, error) {
	parsed, err := parsePEM(ctx, pem, &v1alpha1.KeyRef{}, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return parsed.verifier.PublicKey()
}

// parsePEM loads a key with Tekton's own verifier, so that it accepts the same
// keys.
func parsePEM(ctx context.Context, pem string, key *v1alpha1.KeyRef, hash crypto.Hash) (authority, error) {
	if len(pem) > maxPEM {
		return authority{}, fmt.Errorf("the key has %d bytes, expected at most %d", len(pem), maxPEM)
	}
	inline := &v1alpha1.KeyRef{Data: pem, HashAlgorithm: key.HashAlgorithm}
	verifiers, err := verifier.FromPolicy(ctx, nil, &v1alpha1.VerificationPolicy{
		Spec: v1alpha1.VerificationPolicySpec{Authorities: []v1alpha1.Authority{{Key: inline}}},
	}) // an inline key needs no Kubernetes client
	if err != nil {
		return authority{}, err
	}
	public, err := verifiers[0].PublicKey()
	if err != nil {
		return authority{}, err
	}
	if key, isRSA := public.(*rsa.PublicKey); isRSA && key.N.BitLen() > maxRSA {
		return authority{}, fmt.Errorf("the RSA key has %d bits, expected at most %d", key.N.BitLen(), maxRSA)
	}
	id, err := keys.KeyID(public)
	return authority{id: authorityID{keyID: id, hash: hash}, verifier: verifiers[0]}, err
}
