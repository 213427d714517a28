// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"testing"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

func TestNewerVersion_IsNewerThanAllOfTheRing(t *testing.T) {
	pinned := func(name, ref, version string) v1alpha1.RingKey {
		return v1alpha1.RingKey{Name: name, KMS: &v1alpha1.KMSKey{Ref: ref, Version: version}}
	}
	for name, tc := range map[string]struct {
		keys         []v1alpha1.RingKey
		latest, want string
	}{
		"newer":                {[]v1alpha1.RingKey{pinned("k", "hashivault://a", "9")}, "10", "10"},
		"the same":             {[]v1alpha1.RingKey{pinned("k", "hashivault://a", "9")}, "9", ""},
		"older":                {[]v1alpha1.RingKey{pinned("k", "hashivault://a", "9")}, "8", ""},
		"not known":            {[]v1alpha1.RingKey{pinned("k", "hashivault://a", "9")}, "", ""},
		"not a number":         {[]v1alpha1.RingKey{pinned("k", "hashivault://a", "9")}, "next", ""},
		"in the ring already":  {[]v1alpha1.RingKey{pinned("k", "hashivault://a", "9"), pinned("l", "hashivault://a", "10")}, "10", ""},
		"said of a newer key":  {[]v1alpha1.RingKey{pinned("k", "hashivault://a", "9"), pinned("l", "hashivault://a", "10")}, "11", ""},
		"another key":          {[]v1alpha1.RingKey{pinned("k", "hashivault://a", "9"), pinned("l", "hashivault://b", "10")}, "10", "10"},
		"version in reference": {[]v1alpha1.RingKey{pinned("k", "gcpkms://a", "")}, "10", ""},
		"no KMS":               {[]v1alpha1.RingKey{{Name: "k", PublicKey: "p"}}, "10", ""},
		"not in the spec":      {nil, "10", ""},
	} {
		t.Run(name, func(t *testing.T) {
			ring := &v1alpha1.KeyRing{Spec: v1alpha1.KeyRingSpec{Keys: tc.keys}}
			if got := NewerVersion(ring, &v1alpha1.RingKeyStatus{Name: "k", LatestVersion: tc.latest}); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
