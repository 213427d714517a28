// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// authorizes asks a Set of the policies whether an authority verifies the
// signature of the input.
func authorizes(t *testing.T, keys *Keys, in Input, policies ...*v1alpha1.VerificationPolicy) (bool, error) {
	t.Helper()
	signature := must(base64.StdEncoding.DecodeString(in.Signature))
	return NewSet(policies, keys).Authorizes(t.Context(), signature, in.Checksum)
}

func TestAuthorizes_UsesEachAuthorityAlone(t *testing.T) {
	theirs, other := newKey(), newKey()
	server, downRef := newServer(t.Name(), theirs)
	server.fail(errors.New("sealed"))
	_, kmsRef := newServer(t.Name()+"-up", theirs)
	unknownHash := inline(theirs)
	unknownHash.HashAlgorithm = "md5"
	sha512 := inline(theirs)
	sha512.HashAlgorithm = "sha512"
	signedSHA512 := theirs.input()
	signedSHA512.Signature = theirs.sign(message, crypto.SHA512)
	type policies []*v1alpha1.VerificationPolicy

	for name, tc := range map[string]struct {
		policies policies
		input    Input
		want     bool
		unread   string // part of the error
	}{
		"no policy":                   {nil, theirs.input(), false, ""},
		"inline key":                  {policies{enforce("p", inline(theirs))}, theirs.input(), true, ""},
		"key in a Secret":             {policies{enforce("p", inSecret("theirs"))}, theirs.input(), true, ""},
		"key in a KMS":                {policies{enforce("p", inKMS(kmsRef))}, theirs.input(), true, ""},
		"hash of the policy":          {policies{enforce("p", sha512)}, signedSHA512, true, ""},
		"second policy":               {policies{enforce("p", inline(other)), enforce("q", inline(theirs))}, theirs.input(), true, ""},
		"mode warn":                   {policies{warn("p", inline(theirs))}, theirs.input(), true, ""},
		"pattern does not match":      {policies{matching(enforce("p", inline(theirs)), "other")}, theirs.input(), true, ""},
		"invalid pattern":             {policies{matching(enforce("p", inline(theirs)), "(")}, theirs.input(), true, ""},
		"another key":                 {policies{enforce("p", inline(other))}, theirs.input(), false, ""},
		"empty signature":             {policies{enforce("p", inline(theirs))}, Input{Checksum: message}, false, ""},
		"no key":                      {policies{enforce("p", nil)}, theirs.input(), false, ""},
		"empty key":                   {policies{enforce("p", &v1alpha1.KeyRef{})}, theirs.input(), false, ""},
		"no PEM":                      {policies{enforce("p", &v1alpha1.KeyRef{Data: "garbage"})}, theirs.input(), false, ""},
		"unknown hash":                {policies{enforce("p", unknownHash)}, theirs.input(), false, ""},
		"Secret without entry":        {policies{enforce("p", inSecret("none"))}, theirs.input(), false, ""},
		"Secret with two entries":     {policies{enforce("p", inSecret("two"))}, theirs.input(), false, ""},
		"no key, good key too":        {policies{enforce("p", nil, inline(theirs))}, theirs.input(), true, ""},
		"Secret missing":              {policies{enforce("p", inSecret("missing"))}, theirs.input(), false, `VerificationPolicy ns/p, authority "authority-0": the key cannot be read: Secret ns/missing`},
		"Secret missing, other key":   {policies{enforce("p", inSecret("missing"), inline(other))}, theirs.input(), false, "ns/missing"},
		"Secret missing, good key":    {policies{enforce("p", inSecret("missing"), inline(theirs))}, theirs.input(), true, ""},
		"Secret missing, good policy": {policies{enforce("p", inSecret("missing")), enforce("q", inline(theirs))}, theirs.input(), true, ""},
		"KMS down":                    {policies{enforce("p", inKMS(downRef))}, theirs.input(), false, "sealed"},
		"KMS down, good key":          {policies{enforce("p", inKMS(downRef), inSecret("theirs"))}, theirs.input(), true, ""},
		"KMS unknown":                 {policies{enforce("p", inKMS("nosuchkms://key"))}, theirs.input(), false, "nosuchkms://key"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.secrets.putKey("theirs", theirs)
			c.secrets.put("none", nil)
			c.secrets.put("two", map[string][]byte{"a": []byte(theirs.pem()), "b": []byte(theirs.pem())})
			got, err := authorizes(t, c.keys, tc.input, tc.policies...)
			if got != tc.want || (err != nil) != (tc.unread != "") {
				t.Fatalf("got %t and error %v, want %t", got, err, tc.want)
			}
			if err != nil && !strings.Contains(err.Error(), tc.unread) {
				t.Errorf("error %q does not contain %q", err, tc.unread)
			}
		})
	}
}

// An answer that lets a signature be overwritten must not come from old keys.
func TestAuthorizes_ReadsKeysAgainWithFreshKeys(t *testing.T) {
	before, after := newKey(), newKey()
	server, ref := newServer(t.Name(), before)
	for name, tc := range map[string]struct {
		key     *v1alpha1.KeyRef
		replace func(*cluster)
	}{
		"Secret": {inSecret("key"), func(c *cluster) { c.secrets.putKey("key", after) }},
		"KMS":    {inKMS(ref), func(*cluster) { server.rotate(after) }},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.secrets.putKey("key", before)
			expect := func(keys *Keys, want bool) {
				t.Helper()
				if got, err := authorizes(t, keys, after.input(), enforce("p", tc.key)); got != want || err != nil {
					t.Errorf("got %t and error %v, want %t", got, err, want)
				}
			}
			expect(c.keys, false)
			tc.replace(c)
			expect(c.keys, false) // from the cache
			expect(c.keys.Fresh(), true)
		})
	}
}

// A policy names a KMS that hangs. The check must end, and hanging calls must not
// collect goroutines.
func TestAuthorizes_BoundsHangingKMS(t *testing.T) {
	for name, hang := range map[string]func(*keyServer){
		"public key":   func(s *keyServer) { s.block = make(chan struct{}) },
		"verification": func(s *keyServer) { s.blockVerify = make(chan struct{}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { checkHangingKMS(t, hang) })
		})
	}
}

func checkHangingKMS(t *testing.T, hang func(*keyServer)) {
	t.Helper()
	refs, servers := make([]*v1alpha1.KeyRef, 3), make([]*keyServer, 3)
	for i := range refs {
		server, ref := newServer(fmt.Sprintf("%s-%d", t.Name(), i), newKey())
		hang(server)
		refs[i], servers[i] = inKMS(ref), server
		defer server.unblock()
	}
	read := NewKeys(asTekton(&secretStore{}, clock.RealClock{}))
	const checks = 2 * maxVerifications
	for range checks {
		start := time.Now()
		authorized, err := authorizes(t, read.Fresh(), newKey().input(), enforce("p", refs...))
		if authorized || !errors.Is(err, keys.ErrNoAnswer) {
			t.Errorf("got %t and error %v, want a timeout", authorized, err)
		}
		if waited := time.Since(start); waited > callTimeout {
			t.Errorf("the check took %s, want at most %s", waited, callTimeout)
		}
		<-time.After(silence) // otherwise the next check calls no KMS
	}
	var hanging int64
	for _, server := range servers {
		hanging += server.hanging.Load()
	}
	if hanging == 0 || hanging > maxCallsOfNamespace {
		t.Errorf("%d calls hang after %d checks, want at least one and at most %d", hanging, checks, maxCallsOfNamespace)
	}
}

func TestAuthorizes_InlineKeyDoesNotWaitForHangingKMS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, ref := newServer(t.Name(), newKey())
		server.block = make(chan struct{})
		theirs := newKey()
		start := time.Now()
		got, err := authorizes(t, NewKeys(asTekton(&secretStore{}, clock.RealClock{})), theirs.input(), enforce("a", inKMS(ref)), enforce("b", inline(theirs)))
		if !got || err != nil || time.Since(start) != 0 {
			t.Errorf("got %t and error %v after %s, want true at once", got, err, time.Since(start))
		}
		server.unblock()
	})
}
