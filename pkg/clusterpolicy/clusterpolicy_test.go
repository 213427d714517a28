// SPDX-License-Identifier: Apache-2.0

package clusterpolicy

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

func named(name string, mode v1alpha1.PolicyMode, selector metav1.LabelSelector) policy.ClusterPolicy {
	return policy.ClusterPolicy{
		Name:       name,
		Generation: 3,
		Revision:   policy.Revision{UID: "uid-" + name, ResourceVersion: "7", SpecSHA256: strings.Repeat("a", 64)},
		Spec: v1alpha1.ClusterVerificationPolicySpec{
			Tier: v1alpha1.TierOverride, Priority: 10, Mode: mode, NamespaceSelector: selector,
			Resources:   []v1alpha1.PolicyResource{{Source: "https://example.dev/*"}},
			Authorities: []v1alpha1.PolicyAuthority{{Name: "key", Data: "pem", HashAlgorithm: "sha256"}},
		},
		PublicKeys: map[string]string{"key": "pem"},
	}
}

var staged = metav1.LabelSelector{
	MatchLabels: map[string]string{"team": "a"},
	MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: "stage", Operator: metav1.LabelSelectorOpIn, Values: []string{"prod", "canary", ""}},
		{Key: "example.dev/x", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"1"}},
		{Key: "y", Operator: metav1.LabelSelectorOpExists},
		{Key: "z", Operator: metav1.LabelSelectorOpDoesNotExist},
	},
}

func TestEncode_DecodesToTheSamePolicies(t *testing.T) {
	want := []policy.ClusterPolicy{named("a.b", v1alpha1.PolicyEnforce, staged), named("c", v1alpha1.PolicyWarn, metav1.LabelSelector{})}
	data, _, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v and error %v, want %+v", got, err, want)
	}
	again, _, err := Encode([]policy.ClusterPolicy{want[1], want[0]})
	if err != nil || !reflect.DeepEqual(again, data) {
		t.Errorf("in another order, the data are %v and the error is %v", again, err)
	}
	want[0].PublicKeys["key"] = "other"
	if changed, _, err := Encode(want); err != nil || changed[v1alpha1.RevisionKey] == data[v1alpha1.RevisionKey] {
		t.Errorf("the revision is the same with another key (error %v)", err)
	}
}

// Only policies in mode enforce hold Pods.
func TestEncode_WritesTheSelectorsOfEnforcedNamespaces(t *testing.T) {
	for name, tc := range map[string]struct {
		policies []policy.ClusterPolicy
		want     string
	}{
		"none":   {nil, ""},
		"warn":   {[]policy.ClusterPolicy{named("a", v1alpha1.PolicyWarn, metav1.LabelSelector{})}, ""},
		"skip":   {[]policy.ClusterPolicy{named("a", v1alpha1.PolicySkip, metav1.LabelSelector{})}, ""},
		"all":    {[]policy.ClusterPolicy{named("a", v1alpha1.PolicyEnforce, metav1.LabelSelector{})}, "*"},
		"twice":  {[]policy.ClusterPolicy{named("a", v1alpha1.PolicyEnforce, metav1.LabelSelector{}), named("b", v1alpha1.PolicyEnforce, metav1.LabelSelector{})}, "*"},
		"staged": {[]policy.ClusterPolicy{named("a", v1alpha1.PolicyEnforce, staged)}, "example.dev/x NotIn 1;stage In ,canary,prod;team In a;y Exists;z DoesNotExist"},
	} {
		if _, got, err := Encode(tc.policies); err != nil || got != tc.want {
			t.Errorf("%s: got %q and error %v, want %q", name, got, err, tc.want)
		}
	}
}

func TestEncode_RefusesWhatDoesNotFit(t *testing.T) {
	large := named("a", v1alpha1.PolicyEnforce, metav1.LabelSelector{})
	large.PublicKeys["key"] = strings.Repeat("x", MaxBytes)
	if _, _, err := Encode([]policy.ClusterPolicy{large}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got error %v", err)
	}
	many := make([]policy.ClusterPolicy, 0, MaxSelectors+1)
	for i := range MaxSelectors + 1 {
		many = append(many, named(fmt.Sprint("p", i), v1alpha1.PolicyEnforce, metav1.LabelSelector{MatchLabels: map[string]string{"a": fmt.Sprint(i)}}))
	}
	if _, _, err := Encode(many); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%d selectors: got error %v", len(many), err)
	}
	if _, _, err := Encode(many[1:]); err != nil {
		t.Errorf("%d selectors: got error %v", MaxSelectors, err)
	}
	invalid := named("a", v1alpha1.PolicyEnforce, metav1.LabelSelector{MatchLabels: map[string]string{"a b": "c"}})
	if _, _, err := Encode([]policy.ClusterPolicy{invalid}); err == nil {
		t.Error("an invalid selector was encoded")
	}
}

func TestDecode_RefusesWhatItDoesNotKnow(t *testing.T) {
	for name, entry := range map[string]string{
		"no JSON": "tier", "unknown field": `{"spec":{"except":1}}`, "two objects": `{}{}`, "wrong type": `[]`,
	} {
		if got, err := Decode(map[string]string{"p": entry}); err == nil || !strings.Contains(err.Error(), `"p"`) {
			t.Errorf("%s: got %+v and error %v", name, got, err)
		}
	}
}

// What is decoded can be evaluated or is refused, and is encoded to what it was.
func FuzzDecode(f *testing.F) {
	data, _, err := Encode([]policy.ClusterPolicy{named("a", v1alpha1.PolicyEnforce, staged)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data["a"])
	f.Add(`{"spec":{"mode":"skip","resources":[{"pattern":"(a{1,900}){1,900}"}]}}`)
	f.Fuzz(func(t *testing.T, entry string) {
		policies, err := Decode(map[string]string{"a": entry})
		if err != nil {
			return
		}
		cluster, err := policy.NewCluster(policies)
		if err != nil {
			return
		}
		cluster.ModeOf(map[string]string{"team": "a"})
		if _, err := cluster.Ranks("ns", map[string]string{"team": "a"}, func() ([]string, error) { return nil, nil }); err != nil {
			t.Fatal(err)
		}
		again, _, err := Encode(policies)
		if err != nil {
			return // too large, or a selector that says nothing
		}
		if got, err := Decode(again); err != nil || len(got) != 1 {
			t.Errorf("got %+v and error %v from %q", got, err, again)
		}
	})
}
