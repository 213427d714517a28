// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/tektoncd/chains/pkg/chains/signing"
	chainsconfig "github.com/tektoncd/chains/pkg/config"

	"github.com/trusted-resources/chains-extension/test/fixtures"
)

// secretWith returns a copy of a secret with more files.
func secretWith(secret fixtures.Secret, more fixtures.Secret) fixtures.Secret {
	merged := maps.Clone(secret)
	maps.Copy(merged, more)
	return merged
}

// checkSigns fails the test unless both uses of the key in the files sign, or both
// are refused with an error that contains all texts.
func checkSigns(t *testing.T, l *Loader, want bool, texts ...string) {
	t.Helper()
	_, resourceErr := l.Ring().Active(signing.TypeX509)
	_, runErr := l.RunSigner(t.Context(), signing.TypeX509, chainsconfig.KMSSigner{})
	for use, err := range map[string]error{"resources": resourceErr, "runs": runErr} {
		if signs := err == nil; signs != want {
			t.Fatalf("the key signs %s: %v (%v), want %v", use, signs, err, want)
		}
		for _, text := range texts {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: error %q does not contain %q", use, err, text)
			}
		}
		if err != nil && !errors.Is(err, ErrNoKey) {
			t.Errorf("%s: %v is not ErrNoKey", use, err)
		}
	}
}

func TestLoad_NeverSignsWithRevokedKey(t *testing.T) {
	secret, public, err := fixtures.X509Secret()
	if err != nil {
		t.Fatal(err)
	}
	next, nextPublic, err := fixtures.X509Secret()
	if err != nil {
		t.Fatal(err)
	}
	revoked := fixtures.Secret{"revoked-2026.pub": publicPEM(t, public)}
	dir := t.TempDir()
	write(t, dir, secret)
	l := newTestLoader(t, dir)
	checkSigns(t, l, true)
	sig := must[[]byte](t)(must[*Key](t)(l.Ring().Active(signing.TypeX509)).Sign(t.Context(), []byte("message")))

	write(t, dir, secretWith(secret, revoked))
	if !l.load(t.Context()) {
		t.Error("a revocation is no change")
	}
	checkSigns(t, l, false, keyID(t, public), "revoked")
	checkSigns(t, newTestLoader(t, dir), false, keyID(t, public), "revoked") // after a restart

	// The last good key stays in use when a new file is not usable, but not if it is
	// revoked.
	write(t, dir, secretWith(fixtures.Secret{fixtures.X509Key: []byte("garbage")}, revoked))
	l.load(t.Context())
	checkSigns(t, l, false, "revoked")

	write(t, dir, secretWith(next, revoked))
	l.load(t.Context())
	checkSigns(t, l, true)
	if activeID(l) != keyID(t, nextPublic) {
		t.Errorf("the active key is %q", activeID(l))
	}
	ring := l.Ring()
	if found := ring.FindRevoked(sig, []byte("message")); found == nil || !ring.Revoked(found.ID) || ring.Find(sig, []byte("message")) != nil {
		t.Errorf("the signature is by %v of the revoked keys, want the old key and no other", found)
	}
	if ring.FindRevoked(sig, []byte("another")) != nil {
		t.Error("a signature over another message is found")
	}

	write(t, dir, secretWith(next, secretWith(revoked, fixtures.Secret{"retired.pub": publicPEM(t, public)})))
	l.load(t.Context())
	if l.Ring().Find(sig, []byte("message")) != nil || l.Ring().FindRevoked(sig, []byte("message")) == nil {
		t.Error("a key that is both retired and revoked is not taken for revoked")
	}

	write(t, dir, secretWith(next, fixtures.Secret{"retired.pub": publicPEM(t, public)}))
	l.load(t.Context())
	if l.Ring().Find(sig, []byte("message")) == nil || l.Ring().FindRevoked(sig, []byte("message")) != nil {
		t.Error("the key is still revoked after the operator made it a retired key")
	}
}

// Without knowing which keys are revoked, nothing is signed.
func TestLoad_SignsNothingWhileRevocationsAreUnreadable(t *testing.T) {
	secret, public, err := fixtures.X509Secret()
	if err != nil {
		t.Fatal(err)
	}
	other := publicPEM(t, must[ed25519.PublicKey](t)(newEd25519()))
	many := fixtures.Secret{}
	for i := range maxPublicKeys + 1 {
		many[fmt.Sprintf("revoked-%d.pub", i)] = other
	}
	for name, tc := range map[string]struct {
		files fixtures.Secret
		want  []string
	}{
		"garbage":         {fixtures.Secret{"revoked-1.pub": []byte("garbage")}, []string{"revoked-1.pub", "not a public key"}},
		"empty":           {fixtures.Secret{"revoked-1.pub": {}}, []string{"revoked-1.pub"}},
		"two keys":        {fixtures.Secret{"revoked-1.pub": append(publicPEM(t, public), other...)}, []string{"revoked-1.pub", "more than one"}},
		"too long":        {fixtures.Secret{"revoked-1.pub": make([]byte, maxKeyFile+1)}, []string{"revoked-1.pub", "longer than"}},
		"too many":        {many, []string{"33 files", "at most 32"}},
		"one is good":     {fixtures.Secret{"revoked-0.pub": other, "revoked-1.pub": []byte("garbage")}, []string{"revoked-1.pub"}},
		"the private key": {fixtures.Secret{"revoked-1.pub": secret[fixtures.X509Key]}, []string{"revoked-1.pub"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, secret)
			l := newTestLoader(t, dir)
			checkSigns(t, l, true)
			write(t, dir, secretWith(secret, tc.files))
			l.load(t.Context())
			checkSigns(t, l, false, append(tc.want, "not known which keys are revoked")...)
			checkSigns(t, newTestLoader(t, dir), false, tc.want...)
			write(t, dir, secretWith(secret, fixtures.Secret{"revoked-1.pub": other}))
			l.load(t.Context())
			checkSigns(t, l, true) // another key is revoked
		})
	}
}

func newEd25519() (ed25519.PublicKey, error) {
	public, _, err := ed25519.GenerateKey(nil)
	return public, err
}
