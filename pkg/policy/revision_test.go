// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
)

// The hashes were computed with: jq -jcS .spec | sha256sum
func TestRevision_HashesSpecLikeJQ(t *testing.T) {
	key := &v1alpha1.KeyRef{Data: "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"}
	for name, tc := range map[string]struct {
		spec v1alpha1.VerificationPolicySpec
		want string
	}{
		"a key": {v1alpha1.VerificationPolicySpec{
			Resources: []v1alpha1.ResourcePattern{{Pattern: ".*"}}, Authorities: []v1alpha1.Authority{{Name: "a", Key: key}}, Mode: v1alpha1.ModeEnforce,
		}, "56659d61032fe7dd1a6174ba4aff723d0a0f9769dabf9c3ed0389a3d04f041cc"},
		"characters that encoders escape": {v1alpha1.VerificationPolicySpec{
			Resources: []v1alpha1.ResourcePattern{{Pattern: "https://<a>&\"\\d\t\u2028é😀/"}}, Authorities: []v1alpha1.Authority{{Name: "a"}},
		}, "456e3f5d3cc74f5857432711fe5add473723ab4b14e8b5387bbeab2c2699cd50"},
	} {
		p := enforce("p")
		p.Spec = tc.spec
		want := Revision{UID: "uid-of-p", ResourceVersion: "1", SpecSHA256: tc.want}
		if got := revisionOf(p); got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

func TestVerify_NamesRevisionOfEachPolicy(t *testing.T) {
	key := newKey()
	passes, fails, invalid := enforce("passes", inline(key)), warn("fails", inline(newKey())), matching(enforce("invalid"), "(")
	fails.ResourceVersion = "2"
	c := newCluster(t, passes, fails)
	got := c.verify(key.input())
	if got.Revision != revisionOf(fails) || got.Policies[0].Revision != revisionOf(passes) || got.Policies[1].Revision != revisionOf(fails) {
		t.Errorf("got %+v", got)
	}
	c.change(invalid)
	if got := c.verify(key.input()); got.Revision != revisionOf(invalid) {
		t.Errorf("got %+v, want the revision of the invalid policy", got)
	}
	c.change()
	if got := c.verify(key.input()); got.Revision != (Revision{}) {
		t.Errorf("no policy: got %+v", got.Revision)
	}
}

// A cached verdict is not that of a policy that was replaced by one with the same name,
// even if the API server gives the same numbers again, as after etcd was restored.
func TestVerify_NamesRevisionOfPolicyThatWasReplaced(t *testing.T) {
	key := newKey()
	for name, change := range map[string]func(*v1alpha1.VerificationPolicy){
		"another object": func(p *v1alpha1.VerificationPolicy) { p.UID = "another" },
		"another state":  func(p *v1alpha1.VerificationPolicy) { p.ResourceVersion = "2" },
		"another spec":   func(p *v1alpha1.VerificationPolicy) { p.Spec.Resources[0].Pattern = "https://.*" },
		"invalid spec":   func(p *v1alpha1.VerificationPolicy) { p.Spec.Resources[0].Pattern = "(" },
	} {
		before, after := enforce("p", inline(key)), enforce("p", inline(key))
		change(after)
		c := newCluster(t, before)
		c.verify(key.input())
		c.change(after)
		if got := c.verify(key.input()).Revision; got != revisionOf(after) || got == revisionOf(before) {
			t.Errorf("%s: got %+v, want %+v", name, got, revisionOf(after))
		}
	}
}
