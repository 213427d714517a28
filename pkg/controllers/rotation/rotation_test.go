// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

func ring(name string, keys ...v1alpha1.RingKeyStatus) *v1alpha1.KeyRing {
	return &v1alpha1.KeyRing{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.KeyRingStatus{Keys: keys}}
}

func key(name string, state v1alpha1.KeyState) v1alpha1.RingKeyStatus {
	return v1alpha1.RingKeyStatus{Name: name, State: state, KeyID: "sha256:" + name, PublicKey: "PEM of " + name + "\n"}
}

// What was ever published stays, and only keys of present rings that should be trusted are
// in the bundle.
func TestPublished_KeepsTheKeysOfOtherRings(t *testing.T) {
	other := ring("other", key("o", v1alpha1.KeyActive))
	data, err := published(map[string]string{"notes": "of somebody"}, nil, other)
	if err != nil {
		t.Fatal(err)
	}
	present := ring("present", key("a", v1alpha1.KeyRetired), key("b", v1alpha1.KeyActive), key("c", v1alpha1.KeyPending), key("d", v1alpha1.KeyRevoked))
	expectBundle := func(rings []v1alpha1.KeyRing, changed *v1alpha1.KeyRing, want string) {
		t.Helper()
		if data, err = published(data, rings, changed); err != nil {
			t.Fatal(err)
		}
		if got := data[v1alpha1.TrustedKeysBundle]; got != want {
			t.Errorf("the bundle has %q, want %q", got, want)
		}
	}
	for range 2 { // the second look changes nothing
		expectBundle([]v1alpha1.KeyRing{*other, *present}, present, "PEM of o\nPEM of b\nPEM of c\n")
	}
	restored := ring("other")
	restored.Spec.Keys = []v1alpha1.RingKey{{Name: "o"}}
	expectBundle([]v1alpha1.KeyRing{*restored, *present}, present, "PEM of o\nPEM of b\nPEM of c\n")
	expectBundle([]v1alpha1.KeyRing{*present}, present, "PEM of b\nPEM of c\n") // the other one is deleted
	changed := ring("present", v1alpha1.RingKeyStatus{Name: "b", State: v1alpha1.KeyActive, KeyID: "sha256:e", PublicKey: "PEM of e\n"})
	expectBundle([]v1alpha1.KeyRing{*present}, changed, "PEM of e\n") // the ring was created again, with another key
	expectBundle([]v1alpha1.KeyRing{*changed}, ring("again", key("e", v1alpha1.KeyRevoked)), "")
	expectBundle(nil, nil, "")

	var index []v1alpha1.PublishedKey
	if err := json.Unmarshal([]byte(data[v1alpha1.TrustedKeysIndex]), &index); err != nil {
		t.Fatal(err)
	}
	names := make([]string, 0, len(index))
	for _, entry := range index {
		names = append(names, entry.Ring+"/"+entry.Name+" "+entry.KeyID)
	}
	if want := []string{
		"again/e sha256:e", "other/o sha256:o", "present/a sha256:a", "present/b sha256:b", "present/c sha256:c", "present/d sha256:d", "present/b sha256:e",
	}; !slices.Equal(names, want) {
		t.Errorf("the index has %q, want %q", names, want)
	}
	if data["a.pub"] != "PEM of a\n" || data["o.pub"] != "PEM of o\n" || data["notes"] != "of somebody" {
		t.Errorf("the files are %q, want one for each key, and what somebody stored", data)
	}
}

func TestPublished_RefusesWhatSomebodyElseWrote(t *testing.T) {
	if _, err := published(map[string]string{v1alpha1.TrustedKeysIndex: "{"}, nil, ring("default", key("a", v1alpha1.KeyActive))); err == nil || !strings.Contains(err.Error(), v1alpha1.TrustedKeysIndex) {
		t.Errorf("got %v, want an error that names the file", err)
	}
}
