// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	testclock "k8s.io/utils/clock/testing"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

const namespace = "ns"

// message is the checksum of most inputs.
var message = bytes.Repeat([]byte{7}, 32)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// keyPair is a private key with its public key.
type keyPair struct{ crypto.Signer }

func newECDSA(curve elliptic.Curve) keyPair {
	return keyPair{must(ecdsa.GenerateKey(curve, rand.Reader))}
}

func newKey() keyPair { return newECDSA(elliptic.P256()) }

func newRSA() keyPair { return keyPair{must(rsa.GenerateKey(rand.Reader, 2048))} }

func newEd25519() keyPair {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	return keyPair{must(private, err)}
}

// sign also supports the hashes that sigstore verifies but does not sign with.
func (k keyPair) sign(content []byte, hash crypto.Hash) string {
	if _, ok := k.Signer.(ed25519.PrivateKey); ok {
		return resource.EncodeSignature(must(k.Sign(nil, content, crypto.Hash(0))))
	}
	digest := hash.New()
	digest.Write(content)
	return resource.EncodeSignature(must(k.Sign(rand.Reader, digest.Sum(nil), hash)))
}

func (k keyPair) pem() string { return string(must(cryptoutils.MarshalPublicKeyToPEM(k.Public()))) }

func (k keyPair) id() string { return must(keys.KeyID(k.Public())) }

// input returns an input with this key's signature over message.
func (k keyPair) input() Input {
	return Input{Checksum: message, Signature: k.sign(message, crypto.SHA256), Source: "https://git.example/catalog", NoMatch: Skip}
}

func inline(k keyPair) *v1alpha1.KeyRef { return &v1alpha1.KeyRef{Data: k.pem()} }

func inSecret(name string) *v1alpha1.KeyRef {
	return &v1alpha1.KeyRef{SecretRef: &corev1.SecretReference{Namespace: namespace, Name: name}}
}

func inKMS(ref string) *v1alpha1.KeyRef { return &v1alpha1.KeyRef{KMS: ref} }

// enforce returns a policy in mode enforce that matches every source.
func enforce(name string, keys ...*v1alpha1.KeyRef) *v1alpha1.VerificationPolicy {
	p := &v1alpha1.VerificationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, UID: types.UID("uid-of-" + name), ResourceVersion: "1"},
		Spec:       v1alpha1.VerificationPolicySpec{Mode: v1alpha1.ModeEnforce, Resources: []v1alpha1.ResourcePattern{{Pattern: ".*"}}},
	}
	for i, key := range keys {
		p.Spec.Authorities = append(p.Spec.Authorities, v1alpha1.Authority{Name: fmt.Sprintf("authority-%d", i), Key: key})
	}
	return p
}

func warn(name string, keys ...*v1alpha1.KeyRef) *v1alpha1.VerificationPolicy {
	p := enforce(name, keys...)
	p.Spec.Mode = v1alpha1.ModeWarn
	return p
}

func matching(p *v1alpha1.VerificationPolicy, patterns ...string) *v1alpha1.VerificationPolicy {
	p.Spec.Resources = nil
	for _, pattern := range patterns {
		p.Spec.Resources = append(p.Spec.Resources, v1alpha1.ResourcePattern{Pattern: pattern})
	}
	return p
}

// asTekton returns sources that allow what Tekton allows.
func asTekton(secrets Secrets, clock clock.PassiveClock) Sources {
	return Sources{Secrets: secrets, Access: func() Access { return unrestricted{} }, Clock: clock}
}

type unrestricted struct{}

func (unrestricted) AllowKMS(string) error            { return nil }
func (unrestricted) AllowSecret(string, string) error { return nil }

// secretStore holds Secrets that a test can change, and counts the reads.
type secretStore struct {
	mu    sync.Mutex
	data  map[string]map[string][]byte // by name
	reads int
}

var errNotFound = errors.New("not found")

func (s *secretStore) Secret(_ context.Context, _, name string) (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	data, found := s.data[name]
	if !found {
		return nil, errNotFound
	}
	return data, nil
}

func (s *secretStore) put(name string, entries map[string][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data[name] = entries
}

func (s *secretStore) putKey(name string, key keyPair) {
	s.put(name, map[string][]byte{"cosign.pub": []byte(key.pem())})
}

func (s *secretStore) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.data, name)
}

// policyStore holds the policies of one namespace.
type policyStore struct {
	mu       sync.Mutex
	policies []*v1alpha1.VerificationPolicy
	err      error
	lists    int
	// onList is called after the policies were read and before Policies returns.
	onList func()
}

func (p *policyStore) Policies(string) ([]*v1alpha1.VerificationPolicy, error) {
	p.mu.Lock()
	policies, err, onList := p.policies, p.err, p.onList
	p.lists++
	p.mu.Unlock()
	if onList != nil {
		onList()
	}
	return policies, err
}

func (p *policyStore) set(policies ...*v1alpha1.VerificationPolicy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.policies = policies
}

// cluster is a Verifier with the policies and Secrets that it reads.
type cluster struct {
	*Verifier
	t        *testing.T
	policies *policyStore
	secrets  *secretStore
	clock    *testclock.FakeClock
}

func newCluster(t *testing.T, policies ...*v1alpha1.VerificationPolicy) *cluster {
	t.Helper()
	c := &cluster{
		t: t, policies: &policyStore{policies: policies},
		secrets: &secretStore{data: map[string]map[string][]byte{}},
		clock:   testclock.NewFakeClock(time.Unix(1e9, 0)),
	}
	c.Verifier = New(c.policies, nil, asTekton(c.secrets, c.clock))
	return c
}

// change replaces the policies and notifies the Verifier, as an informer does.
func (c *cluster) change(policies ...*v1alpha1.VerificationPolicy) {
	c.policies.set(policies...)
	c.PoliciesChanged(namespace)
}

func (c *cluster) verify(s Input) Verdict {
	c.t.Helper()
	verdict, err := c.Verify(c.t.Context(), namespace, s)
	if err != nil {
		c.t.Fatal(err)
	}
	return verdict
}

// expect verifies twice: the second verdict can come from the cache.
func (c *cluster) expect(s Input, want Result, reason Reason) {
	c.t.Helper()
	for _, when := range []string{"first verification", "second verification"} {
		if got := c.verify(s); got.Result != want || got.Reason != reason {
			c.t.Errorf("%s: got %s %q (%s), want %s %q", when, got.Result, got.Reason, got.Message, want, reason)
		}
	}
}
