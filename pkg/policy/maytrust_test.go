// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
)

// A policy may trust a key that signs nothing unless each of its keys is known to be
// another one.
func TestMayTrust_IsFalseOnlyForOtherKeys(t *testing.T) {
	lost, other := newKey(), newKey()
	down, downRef := newServer(t.Name(), lost)
	down.fail(errors.New("sealed"))
	_, otherRef := newServer(t.Name()+"-up", other)
	policies := map[string]struct {
		keys []*v1alpha1.KeyRef
		want bool
	}{
		"inline":         {[]*v1alpha1.KeyRef{inline(other), inline(lost)}, true},
		"in-secret":      {[]*v1alpha1.KeyRef{inSecret("lost")}, true},
		"secret-missing": {[]*v1alpha1.KeyRef{inSecret("missing")}, true},
		"kms-down":       {[]*v1alpha1.KeyRef{inKMS(downRef)}, true},
		"other-kms":      {[]*v1alpha1.KeyRef{inKMS(otherRef)}, true}, // an earlier version of its key
		"other":          {[]*v1alpha1.KeyRef{inline(other)}, false},
		"no-pem":         {[]*v1alpha1.KeyRef{inline(lost), {Data: "garbage"}}, false}, // Tekton refuses the policy
	}
	c := newCluster(t)
	c.secrets.putKey("lost", lost)
	all := make([]*v1alpha1.VerificationPolicy, 0, len(policies))
	for name, p := range policies {
		all = append(all, enforce(name, p.keys...))
	}
	set := NewSet(all, c.keys)
	got, err := set.MayTrust(t.Context(), lost.id())
	if err != nil || len(got) != len(policies) {
		t.Fatalf("got %v and error %v, want an answer for each policy", got, err)
	}
	if names := set.Names(); !slices.Equal(names, slices.Sorted(maps.Keys(policies))) {
		t.Fatalf("got the names %q", names)
	}
	for i, name := range set.Names() {
		if got[i] != policies[name].want {
			t.Errorf("policy %s: got %t, want %t", name, got[i], policies[name].want)
		}
	}
}
