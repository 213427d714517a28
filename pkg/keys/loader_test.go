// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"crypto"
	"errors"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms/fake"
	"github.com/tektoncd/chains/pkg/chains/signing"
	chainsconfig "github.com/tektoncd/chains/pkg/config"

	"github.com/trusted-resources/chains-extension/test/fixtures"
)

var x509Only = Settings{SignerTypes: []string{signing.TypeX509}}

// newTestLoader returns a Loader that has loaded the keys in dir.
func newTestLoader(t *testing.T, dir string) *Loader {
	t.Helper()
	l := NewLoader(dir, func() {})
	l.Configure(t.Context(), x509Only)
	return l
}

func write(t *testing.T, dir string, secret fixtures.Secret) {
	t.Helper()
	if err := secret.Write(dir); err != nil {
		t.Fatal(err)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func keyID(t *testing.T, public crypto.PublicKey) string {
	t.Helper()
	return must[string](t)(KeyID(public))
}

func activeID(l *Loader) string {
	key, err := l.Ring().Active(signing.TypeX509)
	if err != nil {
		return ""
	}
	return key.ID
}

func TestLoad_AcceptsKeyFiles(t *testing.T) {
	cosignSecret, cosignPublic, err := fixtures.CosignSecret()
	if err != nil {
		t.Fatal(err)
	}
	x509Secret, x509Public, err := fixtures.X509Secret()
	if err != nil {
		t.Fatal(err)
	}
	both := fixtures.Secret{}
	for _, secret := range []fixtures.Secret{cosignSecret, x509Secret} {
		maps.Copy(both, secret)
	}
	for name, tc := range map[string]struct {
		secret fixtures.Secret
		public crypto.PublicKey
	}{
		"cosign.key":                            {cosignSecret, cosignPublic},
		"x509.pem":                              {x509Secret, x509Public},
		"x509.pem has precedence, as in Chains": {both, x509Public},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, tc.secret)
			key, err := newTestLoader(t, dir).Ring().Active(signing.TypeX509)
			if err != nil {
				t.Fatal(err)
			}
			if want := keyID(t, tc.public); key.ID != want {
				t.Errorf("got key %s, want %s", key.ID, want)
			}
			sig, err := key.Sign(t.Context(), []byte("message"))
			if err != nil || !key.Verify(sig, []byte("message")) || key.Verify(sig, []byte("other")) {
				t.Errorf("signature %x, error %v", sig, err)
			}
		})
	}
}

// badSecrets returns signing secrets that are not usable. want lists parts of the
// error, which names the file and the reason.
func badSecrets(t *testing.T) map[string]struct {
	secret fixtures.Secret
	want   []string
} {
	t.Helper()
	good, _, err := fixtures.CosignSecret()
	if err != nil {
		t.Fatal(err)
	}
	rsa := must[fixtures.Secret](t)(fixtures.RSASecret())
	ed25519 := must[fixtures.Secret](t)(fixtures.Ed25519CosignSecret())
	return map[string]struct {
		secret fixtures.Secret
		want   []string
	}{
		"no key":                   {fixtures.Secret{}, []string{"x509.pem", "cosign.key", "found neither"}},
		"x509.pem is not PEM":      {fixtures.Secret{fixtures.X509Key: []byte("garbage")}, []string{"x509.pem", "not PEM"}},
		"x509.pem is empty":        {fixtures.Secret{fixtures.X509Key: {}}, []string{"x509.pem", "not PEM"}},
		"x509.pem is a public key": {fixtures.Secret{fixtures.X509Key: good[fixtures.CosignPub]}, []string{"x509.pem", "PUBLIC KEY"}},
		"x509.pem is not DER":      {fixtures.Secret{fixtures.X509Key: []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")}, []string{"x509.pem", "PKCS #8"}},
		"x509.pem is RSA":          {rsa, []string{"x509.pem", "rsa", "expected ECDSA"}},
		"cosign.key is not a key":  {fixtures.Secret{fixtures.CosignKey: []byte("garbage"), fixtures.CosignPassword: nil}, []string{"cosign.key"}},
		"no password file":         {fixtures.Secret{fixtures.CosignKey: good[fixtures.CosignKey]}, []string{"cosign.key", "cosign.password"}},
		"wrong password":           {fixtures.Secret{fixtures.CosignKey: good[fixtures.CosignKey], fixtures.CosignPassword: []byte("s3cr3t-guess")}, []string{"cosign.key", "decrypt"}},
		"cosign.key is Ed25519":    {ed25519, []string{"cosign.key", "ed25519", "expected ECDSA or RSA"}},
		"x509.pem is too long":     {fixtures.Secret{fixtures.X509Key: make([]byte, maxKeyFile+1)}, []string{"x509.pem", "longer than"}},
	}
}

func TestLoad_RejectsUnusableKeys(t *testing.T) {
	for name, tc := range badSecrets(t) {
		t.Run(name+" at start", func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, tc.secret)
			_, err := newTestLoader(t, dir).Ring().Active(signing.TypeX509)
			checkRefusal(t, err, dir, tc.want)
			if !errors.Is(err, ErrNoKey) {
				t.Errorf("%v is not ErrNoKey", err)
			}
		})
		t.Run(name+" while running", func(t *testing.T) {
			good, public, err := fixtures.X509Secret()
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			write(t, dir, good)
			l := newTestLoader(t, dir)
			write(t, dir, tc.secret)
			if l.load(t.Context()); activeID(l) != keyID(t, public) {
				t.Errorf("the active key is %q, want the last good key", activeID(l))
			}
			checkRefusal(t, l.Ring().problems[signing.TypeX509], dir, tc.want)
			if l.load(t.Context()) {
				t.Error("loading the same unusable key again reports a change")
			}
			write(t, dir, good)
			if l.load(t.Context()); l.Ring().problems[signing.TypeX509] != nil {
				t.Error("the problem is still set after a good key was loaded")
			}
		})
	}
}

func checkRefusal(t *testing.T, err error, dir string, want []string) {
	t.Helper()
	if err == nil {
		t.Fatal("got no error")
	}
	for _, s := range append(want, dir) {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error %q does not contain %q", err, s)
		}
	}
	if strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("error %q contains the password", err)
	}
}

func TestLoad_AcceptsDirectoryCreatedLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	l := newTestLoader(t, dir)
	if activeID(l) != "" {
		t.Fatal("a key is active before the directory exists")
	}
	secret, public, err := fixtures.X509Secret()
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, secret)
	if !l.load(t.Context()) || activeID(l) != keyID(t, public) {
		t.Errorf("the active key is %q", activeID(l))
	}
}

// A key is ours while the secret has it. What a restart would forget does not
// count before the restart either.
func TestLoad_TrustsWhatTheSecretHas(t *testing.T) {
	first, firstPublic, err := fixtures.X509Secret()
	if err != nil {
		t.Fatal(err)
	}
	second, secondPublic, err := fixtures.CosignSecret()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir, first)
	l := newTestLoader(t, dir)
	key := must[*Key](t)(l.Ring().Active(signing.TypeX509))
	sig := must[[]byte](t)(key.Sign(t.Context(), []byte("message")))
	withRetired := maps.Clone(second)
	withRetired["retired-1.pub"] = publicPEM(t, firstPublic)

	for _, step := range []struct {
		name   string
		secret fixtures.Secret
		ours   bool
	}{
		{"old public key kept", withRetired, true},
		{"old public key removed", second, false},
		{"old public key back", withRetired, true},
		{"old public key garbage", fixtures.Secret{fixtures.CosignKey: second[fixtures.CosignKey], fixtures.CosignPassword: second[fixtures.CosignPassword], "retired-1.pub": []byte("garbage")}, false},
	} {
		write(t, dir, step.secret)
		if !l.load(t.Context()) || activeID(l) != keyID(t, secondPublic) {
			t.Fatalf("%s: the active key is %q", step.name, activeID(l))
		}
		for name, ring := range map[string]*Ring{"running": l.Ring(), "restarted": newTestLoader(t, dir).Ring()} {
			if ours := ring.Find(sig, []byte("message")) != nil; ours != step.ours {
				t.Errorf("%s, %s: the old key is ours: %v, want %v", step.name, name, ours, step.ours)
			}
		}
	}
}

func publicPEM(t *testing.T, public crypto.PublicKey) []byte {
	t.Helper()
	return must[[]byte](t)(cryptoutils.MarshalPublicKeyToPEM(public))
}

func TestLoad_ReportsUnusableRetiredKey(t *testing.T) {
	secret, public, err := fixtures.CosignSecret()
	if err != nil {
		t.Fatal(err)
	}
	secret["old.pub"] = []byte("garbage")
	dir := t.TempDir()
	write(t, dir, secret)
	l := newTestLoader(t, dir)
	if activeID(l) != keyID(t, public) {
		t.Errorf("the active key is %q", activeID(l))
	}
	checkRefusal(t, l.Ring().problems[retiredKeys], dir, []string{"old.pub", "not a public key"})
}

func TestLoad_KeepsKMSKeyAfterBadSettings(t *testing.T) {
	l := NewLoader(t.TempDir(), func() {})
	kmsSettings := Settings{SignerTypes: []string{signing.TypeKMS}, KMS: chainsconfig.KMSSigner{KMSRef: fake.ReferenceScheme + "key"}}
	l.Configure(t.Context(), kmsSettings)
	key, err := l.Ring().Active(signing.TypeKMS)
	if err != nil {
		t.Fatal(err)
	}
	if sig, err := key.Sign(t.Context(), []byte("m")); err != nil || !key.Verify(sig, []byte("m")) {
		t.Errorf("signature %x, error %v", sig, err)
	}
	kmsSettings.KMS.KMSRef = "nosuchkms://key"
	l.Configure(t.Context(), kmsSettings)
	if again, err := l.Ring().Active(signing.TypeKMS); err != nil || again.ID != key.ID {
		t.Errorf("got key %v and error %v, want the last good key", again, err)
	}
	if problem := l.Ring().problems[signing.TypeKMS]; problem == nil || !strings.Contains(problem.Error(), "nosuchkms://key") {
		t.Errorf("the problem is %v", problem)
	}
}

func TestConfigure_LoadsKeyAgainAfterSignerWasOff(t *testing.T) {
	secret, public, err := fixtures.X509Secret()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir, secret)
	l := newTestLoader(t, dir)
	l.Configure(t.Context(), Settings{})
	if id := activeID(l); id != "" {
		t.Errorf("key %s is active while the signer is off", id)
	}
	l.Configure(t.Context(), x509Only)
	if id := activeID(l); id != keyID(t, public) {
		t.Errorf("key %q is active after the signer was turned on again", id)
	}
}

// To decrypt cosign.key takes 64 MiB and a quarter of a second of CPU time.
func TestConfigure_DecryptsAFileOnce(t *testing.T) {
	secret, public, err := fixtures.CosignSecret()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir, secret)
	l := NewLoader(dir, func() {})
	l.Configure(t.Context(), Settings{}) // as before the configuration is read
	before := must[signature.SignerVerifier](t)(l.Ring().FileSigner(signing.TypeX509))
	if activeID(l) != "" {
		t.Error("a key is active although no kind is signed")
	}
	l.Configure(t.Context(), x509Only)
	if after := must[signature.SignerVerifier](t)(l.Ring().FileSigner(signing.TypeX509)); after != before {
		t.Error("the file was decrypted again when the settings changed")
	}
	if got, want := activeID(l), keyID(t, public); got != want {
		t.Errorf("the active key is %q, want %q", got, want)
	}
}
