// SPDX-License-Identifier: Apache-2.0

package rings

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tektoncd/chains/pkg/chains/signing"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/test/fixtures"
)

// server answers with rings, or with an error.
type server struct {
	Client

	rings   []v1alpha1.KeyRing
	err     error
	updated []v1alpha1.KeyRing
}

func (s *server) List(context.Context, metav1.ListOptions) (*v1alpha1.KeyRingList, error) {
	return &v1alpha1.KeyRingList{Items: s.rings}, s.err
}

func (s *server) UpdateStatus(_ context.Context, ring *v1alpha1.KeyRing, _ metav1.UpdateOptions) (*v1alpha1.KeyRing, error) {
	s.updated = append(s.updated, *ring)
	return ring, nil
}

// world is a cluster with a clock.
type world struct {
	*server
	*Rings

	t       *testing.T
	clock   *clocktesting.FakeClock
	secrets map[string]fixtures.Secret
	reads   int
	changes int
}

func newWorld(t *testing.T) *world {
	w := &world{server: &server{}, t: t, clock: clocktesting.NewFakeClock(time.Now()), secrets: map[string]fixtures.Secret{}}
	keys := NewKeys(Sources{Namespace: "own", Secret: func(_ context.Context, _, name string) (map[string][]byte, error) {
		w.reads++
		secret, found := w.secrets[name]
		if !found {
			return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
		}
		return secret, nil
	}}, w.clock)
	w.Rings = New(w.server, keys, w.clock)
	w.OnChange(func() { w.changes++ })
	return w
}

// ring adds a ring with an active key.
func (w *world) ring(name string, selector map[string]string) {
	w.t.Helper()
	secret, _, err := fixtures.X509Secret()
	if err != nil {
		w.t.Fatal(err)
	}
	w.secrets["key-"+name] = secret
	ring := v1alpha1.KeyRing{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{{Name: "k", X509: &v1alpha1.X509Key{Secret: "key-" + name}}}},
	}
	if selector != nil {
		ring.Spec.NamespaceSelector = &metav1.LabelSelector{MatchLabels: selector}
	}
	ring.Status = keyring.Activate(keyring.Observe(&ring, w.keys.Load(w.t.Context(), &ring), w.clock.Now()), "k", w.clock.Now())
	w.rings = append(w.rings, ring)
}

// expect checks which ring signs in a namespace with these labels: the name of a ring, ""
// for the signing secret, or "none".
func (w *world) expect(namespace map[string]string, want string) {
	w.t.Helper()
	ring, found := w.For(namespace)
	got := "none"
	if !found {
		got = ""
	} else if key, err := ring.Active(signing.TypeX509); err == nil {
		for i := range w.rings {
			if keyring.StatusOf(&w.rings[i].Status, "k").KeyID == key.ID {
				got = w.rings[i].Name
			}
		}
	}
	if got != want {
		w.t.Errorf("namespace with labels %v: ring %q signs, want %q", namespace, got, want)
	}
}

func TestRings_ServeTheNamespacesThatTheySelect(t *testing.T) {
	w := newWorld(t)
	w.ring(v1alpha1.DefaultKeyRing, nil)
	w.ring("prod", map[string]string{"stage": "prod"})
	w.ring("payments", map[string]string{"team": "payments"})
	w.expect(nil, "none") // before the first read
	w.Read(t.Context())
	w.expect(nil, v1alpha1.DefaultKeyRing)
	w.expect(map[string]string{"stage": "prod"}, "prod")
	w.expect(map[string]string{"stage": "prod", "team": "payments"}, "none")
	if ring, _ := w.For(map[string]string{"stage": "prod", "team": "payments"}); len(ring.Keys()) != 2 {
		t.Errorf("%d keys are known where two rings select the namespace, want both", len(ring.Keys()))
	}

	w.rings = w.rings[1:]
	w.Read(t.Context())
	w.expect(nil, "") // as without any ring
}

func TestRings_SignNothingWhenTheyCannotBeRead(t *testing.T) {
	w := newWorld(t)
	w.ring(v1alpha1.DefaultKeyRing, nil)
	w.Read(t.Context())
	w.err = errors.New("connection refused")
	w.clock.Step(Fence)
	w.Read(t.Context())
	w.expect(nil, v1alpha1.DefaultKeyRing)
	changes := w.changes
	w.clock.Step(time.Second)
	w.expect(nil, "none") // without a read
	w.Read(t.Context())
	if w.changes != changes+1 {
		t.Error("the controllers were not told that the keys may not sign any more")
	}
	if ring, _ := w.For(nil); len(ring.Keys()) != 1 {
		t.Error("the signatures of the key are not recognized any more")
	}
	w.err = nil
	w.Read(t.Context())
	w.expect(nil, v1alpha1.DefaultKeyRing)
	if w.changes != changes+2 {
		t.Error("the controllers were not told that the keys may sign again")
	}
}

// Somebody asked between two reads, when the last good one had just become too old.
func TestRings_TellThoseWhoWereRefused(t *testing.T) {
	w := newWorld(t)
	w.ring(v1alpha1.DefaultKeyRing, nil)
	w.Read(t.Context())
	changes := w.changes
	w.clock.Step(Fence + time.Second)
	w.expect(nil, "none")
	w.Read(t.Context())
	if w.changes != changes+1 {
		t.Error("who was refused a key does not hear that the key may sign again")
	}
}

func TestRings_WithoutTheDefinitionAreNone(t *testing.T) {
	w := newWorld(t)
	w.err = apierrors.NewNotFound(schema.GroupResource{Resource: "keyrings"}, "")
	w.Read(t.Context())
	w.expect(nil, "")
	w.err = apierrors.NewForbidden(schema.GroupResource{Resource: "keyrings"}, "", errors.New("no"))
	w.clock.Step(Fence + time.Second)
	w.Read(t.Context())
	w.expect(nil, "none") // there may be a ring
}

func TestRings_ReadEachSecretOnce(t *testing.T) {
	w := newWorld(t)
	w.ring(v1alpha1.DefaultKeyRing, nil)
	w.Read(t.Context())
	changes := w.changes
	for range 10 {
		w.Read(t.Context())
	}
	if w.reads != 1 || w.changes != changes {
		t.Errorf("the Secret was read %d times, want once; %d changes were reported, want none", w.reads, w.changes-changes)
	}
}

func TestRings_RefuseAPublicHalfOfAnotherKey(t *testing.T) {
	w := newWorld(t)
	w.ring("one", nil)
	w.ring("two", nil)
	ring := w.rings[0]
	ring.Spec.Keys[0].PublicKey = keyring.StatusOf(&w.rings[1].Status, "k").PublicKey
	ring.Status = v1alpha1.KeyRingStatus{}
	loaded := w.keys.Load(t.Context(), &ring)["k"]
	if loaded.Signs || loaded.Err == nil || !strings.Contains(loaded.Err.Error(), "the same key") {
		t.Errorf("got %+v, want an error", loaded)
	}
}

func TestRings_RecordTheUseOfTheirKeysOnly(t *testing.T) {
	w := newWorld(t)
	w.ring(v1alpha1.DefaultKeyRing, nil)
	w.Read(t.Context())
	w.Verified("sha256:of-somebody")
	w.Read(t.Context())
	if len(w.updated) != 0 || len(w.verified) != 0 {
		t.Errorf("recorded %v and %v, want nothing", w.updated, w.verified)
	}
	w.Verified(keyring.StatusOf(&w.rings[0].Status, "k").KeyID)
	w.Read(t.Context())
	if len(w.updated) != 1 || keyring.StatusOf(&w.updated[0].Status, "k").LastVerified == nil {
		t.Fatalf("recorded %v, want the use of the key", w.updated)
	}
	w.rings = w.updated
	w.clock.Step(useInterval / 2)
	w.Verified(keyring.StatusOf(&w.rings[0].Status, "k").KeyID)
	w.Read(t.Context())
	if len(w.updated) != 1 {
		t.Error("recorded again within the interval")
	}
}
