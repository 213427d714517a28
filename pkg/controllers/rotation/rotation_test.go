// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tektoncd/chains/pkg/chains/annotations"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

func ring(name string, keys ...v1alpha1.RingKeyStatus) *v1alpha1.KeyRing {
	return &v1alpha1.KeyRing{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.KeyRingStatus{Keys: keys}}
}

func key(name string, state v1alpha1.KeyState) v1alpha1.RingKeyStatus {
	return v1alpha1.RingKeyStatus{Name: name, State: state, KeyID: "sha256:" + name, PublicKey: "PEM of " + name + "\n"}
}

// What was ever published stays, and only keys that should be trusted are in the bundle.
func TestPublished_KeepsTheKeysOfOtherRings(t *testing.T) {
	gone := ring("gone", key("g", v1alpha1.KeyActive))
	data, err := published(nil, gone, &gone.Status)
	if err != nil {
		t.Fatal(err)
	}
	present := ring("present", key("a", v1alpha1.KeyRetired), key("b", v1alpha1.KeyActive), key("c", v1alpha1.KeyPending), key("d", v1alpha1.KeyRevoked))
	for range 2 { // the second look changes nothing
		if data, err = published(data, present, &present.Status); err != nil {
			t.Fatal(err)
		}
	}
	var index []v1alpha1.PublishedKey
	if err := json.Unmarshal([]byte(data[v1alpha1.TrustedKeysIndex]), &index); err != nil {
		t.Fatal(err)
	}
	names := make([]string, 0, len(index))
	for _, entry := range index {
		names = append(names, entry.Ring+"/"+entry.Name)
	}
	if want := []string{"gone/g", "present/a", "present/b", "present/c", "present/d"}; !slices.Equal(names, want) {
		t.Errorf("the index has %q, want %q", names, want)
	}
	if got, want := data[v1alpha1.TrustedKeysBundle], "PEM of g\nPEM of b\nPEM of c\n"; got != want {
		t.Errorf("the bundle has %q, want %q", got, want)
	}
	again := ring("again", key("b", v1alpha1.KeyRevoked))
	if data, err = published(data, again, &again.Status); err != nil || strings.Contains(data[v1alpha1.TrustedKeysBundle], "PEM of b") {
		t.Errorf("got %v and the bundle %q, want none of the key that another ring has revoked", err, data[v1alpha1.TrustedKeysBundle])
	}
	if data["a.pub"] != "PEM of a\n" {
		t.Errorf("the files are %q, want one for each key", data)
	}
}

func TestPublished_RefusesWhatSomebodyElseWrote(t *testing.T) {
	r := ring("default", key("a", v1alpha1.KeyActive))
	if _, err := published(map[string]string{v1alpha1.TrustedKeysIndex: "{"}, r, &r.Status); err == nil || !strings.Contains(err.Error(), v1alpha1.TrustedKeysIndex) {
		t.Errorf("got %v, want an error that names the file", err)
	}
}

func TestIsOpen(t *testing.T) {
	activation := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	finalizer, attested := []string{"chains.tekton.dev/taskrun"}, map[string]string{annotations.ChainsAnnotation: "true"}
	for name, tc := range map[string]struct {
		created     time.Time
		done        bool
		finalizers  []string
		annotations map[string]string
		want        bool
	}{
		"began later":              {activation.Add(2 * time.Second), false, finalizer, nil, false},
		"began in the same second": {activation.Add(time.Second), false, finalizer, nil, true},
		"runs":                     {activation.Add(-time.Hour), false, nil, nil, true},
		"done, attested":           {activation.Add(-time.Hour), true, finalizer, attested, false},
		"done, not attested":       {activation.Add(-time.Hour), true, finalizer, nil, true},
		"done, nobody attests":     {activation.Add(-time.Hour), true, nil, nil, false},
		"runs, marked by somebody": {activation.Add(-time.Hour), false, finalizer, attested, true},
	} {
		t.Run(name, func(t *testing.T) {
			tr := &v1.TaskRun{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.Time{Time: tc.created}, Finalizers: tc.finalizers, Annotations: tc.annotations}}
			if tc.done {
				tr.Status.SetCondition(&apis.Condition{Type: apis.ConditionSucceeded, Status: corev1.ConditionTrue})
			}
			if got := isOpen(tr, activation); got != tc.want {
				t.Errorf("got %t, want %t", got, tc.want)
			}
		})
	}
}
