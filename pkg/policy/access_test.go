// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"

	trconfig "github.com/trusted-resources/chains-extension/pkg/config"
)

// denied forbids every KMS and foreign Secrets.
type denied struct{}

var errDenied = errors.New("the setting x does not allow it")

func (denied) AllowKMS(string) error { return errDenied }

func (denied) AllowSecret(own, namespace string) error {
	if own == namespace {
		return nil
	}
	return errDenied
}

func TestVerify_FailsKeyThatIsNotAllowed(t *testing.T) {
	key := newKey()
	server, ref := newServer(t.Name(), key)
	for name, tc := range map[string]struct {
		keys []*v1alpha1.KeyRef
		want Reason
	}{
		"KMS":                           {[]*v1alpha1.KeyRef{inKMS(ref)}, KeyNotAllowed},
		"KMS beside the key":            {[]*v1alpha1.KeyRef{inline(key), inKMS(ref)}, KeyNotAllowed},
		"program of the KMS library":    {[]*v1alpha1.KeyRef{inKMS("sh://key")}, KeyNotAllowed},
		"foreign Secret":                {[]*v1alpha1.KeyRef{inForeignSecret("key")}, KeyNotAllowed},
		"foreign Secret beside the key": {[]*v1alpha1.KeyRef{inline(key), inForeignSecret("key")}, KeyNotAllowed},
		"own Secret":                    {[]*v1alpha1.KeyRef{inSecret("key")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.secrets.putKey("key", key)
			sources := asTekton(c.secrets, c.clock)
			sources.Access = func() Access { return denied{} }
			verdict := NewSet([]*v1alpha1.VerificationPolicy{enforce("p", tc.keys...)}, NewKeys(sources)).Verify(t.Context(), key.input())
			if verdict.Reason != tc.want || (verdict.Result == Passed) != (tc.want == "") {
				t.Errorf("got %+v, want %q", verdict, tc.want)
			}
			if tc.want != "" && (!strings.Contains(verdict.Message, errDenied.Error()) || c.secrets.reads != 0) {
				t.Errorf("got message %q, and %d Secrets were read", verdict.Message, c.secrets.reads)
			}
		})
	}
	if server.count() != 0 {
		t.Error("the KMS was called")
	}
}

// A key that is not allowed may have made the signature. So the signature is neither
// authorized nor known to be nobody's.
func TestAuthorizes_DoesNotDecideAboutKeyThatIsNotAllowed(t *testing.T) {
	theirs := newKey()
	server, ref := newServer(t.Name(), theirs)
	c := newCluster(t)
	c.secrets.putKey("key", theirs)
	sources := asTekton(c.secrets, c.clock)
	sources.Access = func() Access { return denied{} }
	for name, key := range map[string]*v1alpha1.KeyRef{"KMS": inKMS(ref), "foreign Secret": inForeignSecret("key")} {
		authorized, err := authorizes(t, NewKeys(sources), theirs.input(), enforce("p", key))
		if authorized || !errors.Is(err, errNotAllowed) || !strings.Contains(err.Error(), `VerificationPolicy ns/p, authority "authority-0"`) {
			t.Errorf("%s: got %t and error %v", name, authorized, err)
		}
		authorized, err = authorizes(t, NewKeys(sources), theirs.input(), enforce("p", key, inline(theirs)))
		if !authorized || err != nil {
			t.Errorf("%s beside the key: got %t and error %v", name, authorized, err)
		}
	}
	if server.count() != 0 || c.secrets.reads != 0 {
		t.Errorf("the KMS was called %d times, Secrets were read %d times", server.count(), c.secrets.reads)
	}
}

// A change of the setting takes effect at once, although keys and verdicts are
// remembered.
func TestVerify_FollowsAccess(t *testing.T) {
	key := newKey()
	_, ref := newServer(t.Name(), key)
	c := newCluster(t, enforce("p", inKMS(ref)))
	var access Access = unrestricted{}
	sources := asTekton(c.secrets, c.clock)
	sources.Access = func() Access { return access }
	c.Verifier = New(c.policies, nil, sources)
	for range 2 {
		access = unrestricted{}
		c.expect(key.input(), Passed, "")
		access = denied{}
		c.expect(key.input(), Failed, KeyNotAllowed)
	}
}

func TestKeys_AllowInlineKeysOnlyWithoutAccess(t *testing.T) {
	key := newKey()
	for name, tc := range map[string]struct {
		key  *v1alpha1.KeyRef
		want Reason
	}{
		"inline": {inline(key), ""}, "Secret": {inSecret("key"), KeyNotAllowed}, "KMS": {inKMS("hashivault://key"), KeyNotAllowed},
	} {
		keys := NewKeys(Sources{Clock: newCluster(t).clock})
		if got := NewSet([]*v1alpha1.VerificationPolicy{enforce("p", tc.key)}, keys).Verify(t.Context(), key.input()); got.Reason != tc.want {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// What the author of a policy learns about a Secret of another namespace does not
// depend on whether the Secret exists, nor on its content. Only the log says more.
func TestForeignSecret_IsNotRevealed(t *testing.T) {
	key := newKey()
	signature := must(base64.StdEncoding.DecodeString(key.input().Signature))
	type answer struct {
		reason             Reason
		message, undecided string
	}
	var first *answer
	for name, data := range map[string]map[string][]byte{
		"missing": nil, "no entry": {}, "empty entry": {"a": nil}, "two entries": {"a": []byte(key.pem()), "b": []byte("x")},
		"garbage":     {"a": []byte("hunter2")},
		"private key": {"a": []byte("-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n")},
		"not a key":   {"a": []byte("-----BEGIN PUBLIC KEY-----\naHVudGVyMg==\n-----END PUBLIC KEY-----\n")},
	} {
		var logged []string
		sources := asTekton(secretsFunc(func(string, string) (map[string][]byte, error) {
			if data == nil {
				return nil, errNotFound
			}
			return data, nil
		}), newCluster(t).clock)
		sources.SecretUnusable = func(_ context.Context, namespace, name string, err error) {
			logged = append(logged, namespace+"/"+name+": "+err.Error())
		}
		set := NewSet([]*v1alpha1.VerificationPolicy{enforce("p", inForeignSecret("secret"))}, NewKeys(sources))
		verdict := set.Verify(t.Context(), key.input())
		authorized, err := set.Authorizes(t.Context(), signature, message)
		if authorized || err == nil {
			t.Fatalf("%s: got %t and error %v", name, authorized, err)
		}
		got := answer{verdict.Reason, verdict.Message, err.Error()}
		if first == nil {
			first = &got
		}
		if got != *first || got.reason != KeyUnavailable {
			t.Errorf("%s: got %+v, for another Secret %+v", name, got, *first)
		}
		if len(logged) != 1 || strings.Contains(logged[0], "hunter2") || strings.Contains(logged[0], "aHVudGVyMg") {
			t.Errorf("%s: logged %q, want one line without content", name, logged)
		}
	}
}

// The settings name the schemes of all KMS that this program knows, besides those of
// tests. For any other scheme, sigstore would run a program.
func TestConfig_KnowsEveryKMS(t *testing.T) {
	for _, provider := range kms.SupportedProviders() {
		if slices.Contains([]string{testScheme, "fakekms://"}, provider) {
			continue
		}
		reference := provider + "host/key"
		cfg, err := trconfig.Parse(map[string]string{"trustedresources.policies.kms": reference})
		if err != nil {
			t.Errorf("%s: %v", provider, err)
			continue
		}
		if err := cfg.AllowKMS(reference); err != nil {
			t.Errorf("%s: %v", provider, err)
		}
	}
}
