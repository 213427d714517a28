// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"

	"github.com/trusted-resources/chains-extension/pkg/keys"
)

func TestVerify_ReadsSecretOncePerMaxSecretAge(t *testing.T) {
	key := newKey()
	c := newCluster(t, enforce("a", inSecret("key")), enforce("b", inSecret("key")))
	c.secrets.putKey("key", key)
	for range 100 {
		c.expect(key.input(), Passed, "")
	}
	if c.secrets.reads != 1 {
		t.Errorf("200 verifications with two policies read the Secret %d times, want once", c.secrets.reads)
	}
	c.clock.Step(MaxSecretAge)
	c.expect(key.input(), Passed, "")
	if c.secrets.reads != 2 {
		t.Errorf("after MaxSecretAge the Secret was read %d times, want twice", c.secrets.reads)
	}
}

func TestVerify_ReadsNoSecretForInlineKey(t *testing.T) {
	key := newKey()
	c := newCluster(t, enforce("p", inline(key)))
	c.expect(key.input(), Passed, "")
	c.clock.Step(24 * time.Hour)
	c.expect(key.input(), Passed, "")
	if c.secrets.reads != 0 || c.policies.lists != 1 {
		t.Errorf("Secrets were read %d times, want 0; policies were listed %d times, want once", c.secrets.reads, c.policies.lists)
	}
}

func TestVerify_UsesReplacedKeyOfSecret(t *testing.T) {
	before, after := newKey(), newKey()
	c := newCluster(t, enforce("p", inSecret("key")))
	c.secrets.putKey("key", before)
	old, new := before.input(), after.input()
	c.expect(old, Passed, "")
	c.expect(new, Failed, SignatureInvalid)

	c.secrets.putKey("key", after)
	c.clock.Step(MaxSecretAge)
	c.expect(old, Failed, SignatureInvalid)
	c.expect(new, Passed, "")
}

func TestVerify_FailsWhileSecretIsDeleted(t *testing.T) {
	key := newKey()
	c := newCluster(t, enforce("p", inSecret("key")))
	c.secrets.putKey("key", key)
	c.expect(key.input(), Passed, "")

	c.secrets.remove("key")
	c.clock.Step(MaxSecretAge)
	c.expect(key.input(), Failed, KeyUnavailable)

	c.secrets.putKey("key", key)
	c.expect(key.input(), Failed, KeyUnavailable) // the failure is still cached
	c.clock.Step(MaxFailureAge)
	c.expect(key.input(), Passed, "")
}

func TestVerify_ReadsMissingSecretAgainAfterMaxFailureAge(t *testing.T) {
	c := newCluster(t, enforce("p", inSecret("missing")))
	for range 100 {
		c.expect(newKey().input(), Failed, KeyUnavailable)
	}
	if c.secrets.reads != 1 {
		t.Errorf("200 verifications read the missing Secret %d times, want once", c.secrets.reads)
	}
	c.clock.Step(MaxFailureAge)
	c.expect(newKey().input(), Failed, KeyUnavailable)
	if c.secrets.reads != 2 {
		t.Errorf("after MaxFailureAge the Secret was read %d times, want twice", c.secrets.reads)
	}
}

// Without a failed verification, a rotated key is read after MaxKMSAge.
func TestVerify_ReadsKMSKeyAgainAfterMaxKMSAge(t *testing.T) {
	before, after := newKey(), newKey()
	server, ref := newServer(t.Name(), before)
	c := newCluster(t, enforce("p", inKMS(ref)))
	for range 100 {
		c.expect(before.input(), Passed, "")
	}
	server.rotate(after)
	c.clock.Step(MaxKMSAge - time.Second)
	c.expect(before.input(), Passed, "")
	if server.count() != 1 {
		t.Errorf("the key was read %d times, want once", server.count())
	}
	c.clock.Step(time.Second)
	c.expect(before.input(), Failed, SignatureInvalid)
	c.expect(after.input(), Passed, "")
	if server.count() != 2 {
		t.Errorf("the key was read %d times, want twice", server.count())
	}
}

func TestVerify_ReadsKMSKeyAgainAfterFailure(t *testing.T) {
	before, after := newKey(), newKey()
	server, ref := newServer(t.Name(), before)
	c := newCluster(t, enforce("p", inKMS(ref)))
	c.expect(before.input(), Passed, "")
	server.rotate(after)

	c.clock.Step(minKMSAge - time.Second)
	c.expect(after.input(), Failed, SignatureInvalid)
	if server.count() != 1 {
		t.Errorf("a key younger than minKMSAge was read %d times, want once", server.count())
	}
	c.clock.Step(time.Second)
	c.expect(after.input(), Passed, "")
	c.expect(before.input(), Failed, SignatureInvalid)
	if server.count() != 2 {
		t.Errorf("the key was read %d times, want twice", server.count())
	}
}

func TestVerify_BadSignaturesDoNotFloodKMS(t *testing.T) {
	server, ref := newServer(t.Name(), newKey())
	c := newCluster(t, enforce("p", inKMS(ref)))
	for range 60 {
		c.expect(newKey().input(), Failed, SignatureInvalid)
		c.clock.Step(time.Second)
	}
	if got := server.count(); got < 2 || got > 7 {
		t.Errorf("120 bad signatures in a minute read the key %d times, want once per %s", got, minKMSAge)
	}
	unsigned := newKey().input()
	unsigned.Signature = ""
	before := server.count()
	c.clock.Step(minKMSAge)
	c.expect(unsigned, Failed, Unsigned)
	if server.count() != before {
		t.Error("verifying an unsigned resource read the key again")
	}
}

func TestVerify_PassesAfterKMSRecovers(t *testing.T) {
	key := newKey()
	server, ref := newServer(t.Name(), key)
	server.fail(errors.New("sealed"))
	c := newCluster(t, enforce("p", inKMS(ref)))
	c.expect(key.input(), Failed, KeyUnavailable)
	server.fail(nil)
	c.expect(key.input(), Failed, KeyUnavailable)
	c.clock.Step(MaxFailureAge)
	c.expect(key.input(), Passed, "")
}

// slowSecrets fail after more time than MaxFailureAge.
type slowSecrets struct{ *cluster }

func (s slowSecrets) Secret(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	s.clock.Step(2 * MaxFailureAge)
	return s.secrets.Secret(ctx, namespace, name)
}

func TestVerify_CachesFailureThatTookLong(t *testing.T) {
	c := newCluster(t, enforce("p", inSecret("missing")))
	c.Verifier = New(c.policies, nil, asTekton(slowSecrets{c}, c.clock))
	for range 3 {
		c.expect(newKey().input(), Failed, KeyUnavailable)
	}
	if c.secrets.reads != 1 {
		t.Errorf("the Secret was read %d times, want once", c.secrets.reads)
	}
}

// The KMS client ignores its context.
func TestVerify_EndsWithContextWhileKMSHangs(t *testing.T) {
	key := newKey()
	server, ref := newServer(t.Name(), key)
	server.block = make(chan struct{})
	c := newCluster(t, enforce("p", inKMS(ref)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if verdict, err := c.Verify(ctx, namespace, key.input()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %+v and %v", verdict, err)
	}
	close(server.block)
	c.expect(key.input(), Passed, "") // the canceled call was not cached as a failure
}

func TestVerify_ReadsHangingKMSOnceForAllCallers(t *testing.T) {
	key := newKey()
	server, ref := newServer(t.Name(), key)
	server.block = make(chan struct{})
	c := newCluster(t, enforce("p", inKMS(ref)))
	ctx, giveUp := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for range 10 {
		callers.Go(func() {
			if verdict, err := c.Verify(ctx, namespace, key.input()); !errors.Is(err, context.Canceled) {
				t.Errorf("got %+v and %v", verdict, err)
			}
		})
	}
	giveUp()
	callers.Wait()
	close(server.block)
	c.expect(key.input(), Passed, "")
	if got := server.count(); got > 2 { // the first call can end before the last caller starts
		t.Errorf("the key was read %d times, want at most twice", got)
	}
}

func TestVerify_DistinguishesSecretsByNamespace(t *testing.T) {
	key := newKey()
	elsewhere := inSecret("key")
	elsewhere.SecretRef.Namespace = "elsewhere"
	secrets := secretsFunc(func(namespace, _ string) (map[string][]byte, error) {
		if namespace == "elsewhere" {
			return nil, errNotFound
		}
		return map[string][]byte{"cosign.pub": []byte(key.pem())}, nil
	})
	keys := NewKeys(asTekton(secrets, newCluster(t).clock))
	for name, tc := range map[string]struct {
		key  *v1alpha1.KeyRef
		want Result
	}{"here": {inSecret("key"), Passed}, "elsewhere": {elsewhere, Failed}} {
		set := NewSet([]*v1alpha1.VerificationPolicy{enforce("p", tc.key)}, keys)
		if got := set.Verify(t.Context(), key.input()); got.Result != tc.want {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

type secretsFunc func(namespace, name string) (map[string][]byte, error)

func (f secretsFunc) Secret(_ context.Context, namespace, name string) (map[string][]byte, error) {
	return f(namespace, name)
}

// A timeout after the public key was read does not prove that the signature is bad.
func TestVerify_ReportsKeyUnavailableWhenKMSTimesOut(t *testing.T) {
	key := newKey()
	_, ref := newServer(t.Name(), key)
	set := NewSet([]*v1alpha1.VerificationPolicy{enforce("p", inKMS(ref))}, NewKeys(asTekton(nil, newCluster(t).clock)))
	if got := set.Verify(t.Context(), key.input()); got.Result != Passed {
		t.Fatalf("got %+v", got)
	}
	set.policies[0].keys.Load().authorities[0].verifier = keys.NewKMSClient(timingOut{}, ref, newKMSLimits(time.Minute, Sources{Clock: newCluster(t).clock}).verifications)
	if got := set.Verify(t.Context(), key.input()); got.Reason != KeyUnavailable {
		t.Errorf("got %+v", got)
	}
}

// timingOut is a client that ends its verifications with a timeout.
type timingOut struct{ kms.SignerVerifier }

func (timingOut) VerifySignature(io.Reader, io.Reader, ...signature.VerifyOption) error {
	return context.DeadlineExceeded
}

func TestVerify_ReadsOnlyOldKMSKeysAgainAfterFailure(t *testing.T) {
	old, oldRef := newServer(t.Name()+"-old", newKey())
	recent, recentRef := newServer(t.Name()+"-recent", newKey())
	c := newCluster(t, enforce("a", inKMS(oldRef)))
	c.expect(newKey().input(), Failed, SignatureInvalid)
	c.clock.Step(minKMSAge / 2)
	c.change(enforce("a", inKMS(oldRef)), enforce("b", inKMS(recentRef)))
	c.expect(newKey().input(), Failed, SignatureInvalid)
	c.clock.Step(minKMSAge / 2)
	c.expect(newKey().input(), Failed, SignatureInvalid)
	if old.count() != 2 || recent.count() != 1 {
		t.Errorf("the old key was read %d times, want 2, the recent one %d times, want 1", old.count(), recent.count())
	}
}
