// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
)

func TestConsequences_SayWhoSignsAndWhatBecomesOfSignatures(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*v1alpha1.KeyRing)
		key    string
		hold   bool
		says   []string
	}{
		"another key":  {activated, "2027", false, []string{`"2026" signs instead`, "cannot be undone", "by hand"}},
		"signed again": {func(*v1alpha1.KeyRing) {}, "2026", false, []string{`"2027" signs instead`, "10 resources are signed again", "--hold prevents"}},
		"held":         {func(*v1alpha1.KeyRing) {}, "2026", true, []string{"10 resources keep the signature"}},
		"no key":       {func(r *v1alpha1.KeyRing) { r.Spec.Keys = r.Spec.Keys[:1] }, "2026", false, []string{"nothing is signed until", "get no other one"}},
		"a key not in use": {func(r *v1alpha1.KeyRing) {
			activated(r)
			r.Status.Keys[0].Signed = 0
		}, "2026", false, []string{"cannot be undone"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := rotating(tc.change)
			after := before.DeepCopy()
			if err := keyring.Revoke(after, tc.key, func(r *v1alpha1.Revocation) { r.Hold = tc.hold }); err != nil {
				t.Fatal(err)
			}
			got := strings.Join(consequences(before, after, tc.key), "\n")
			for _, want := range tc.says {
				if !strings.Contains(got, want) {
					t.Errorf("got:\n%s\nwant %q", got, want)
				}
			}
			if name == "a key not in use" && strings.Contains(got, "instead") {
				t.Errorf("got:\n%s", got)
			}
		})
	}
}
