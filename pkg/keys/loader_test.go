package keys

import (
	"crypto"
	"errors"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature/kms/fake"
	"github.com/tektoncd/chains/pkg/chains/signing"
	chainsconfig "github.com/tektoncd/chains/pkg/config"

	"github.com/trusted-resources/chains-extension/test/fixtures"
)

var x509Only = Settings{SignerTypes: []string{signing.TypeX509}}

// keeper loads what is in dir, as at start.
func keeper(t *testing.T, dir string) *Keeper {
	t.Helper()
	k := NewKeeper(dir, func() {})
	k.Configure(t.Context(), x509Only)
	return k
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

func activeID(k *Keeper) string {
	key, err := k.Ring().Active(signing.TypeX509)
	if err != nil {
		return ""
	}
	return key.ID
}

func TestLoads(t *testing.T) {
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
		"cosign.key":                    {cosignSecret, cosignPublic},
		"x509.pem":                      {x509Secret, x509Public},
		"x509.pem wins, as with Chains": {both, x509Public},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, tc.secret)
			key, err := keeper(t, dir).Ring().Active(signing.TypeX509)
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

// badSecrets are all refused, with an error that names file and reason.
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
		"no key":                {fixtures.Secret{}, []string{"x509.pem", "cosign.key", "found neither"}},
		"x509.pem is not PEM":   {fixtures.Secret{fixtures.X509Key: []byte("garbage")}, []string{"x509.pem", "not PEM"}},
		"x509.pem is empty":     {fixtures.Secret{fixtures.X509Key: {}}, []string{"x509.pem", "not PEM"}},
		"x509.pem is public":    {fixtures.Secret{fixtures.X509Key: good[fixtures.CosignPub]}, []string{"x509.pem", "PUBLIC KEY"}},
		"x509.pem is not DER":   {fixtures.Secret{fixtures.X509Key: []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")}, []string{"x509.pem", "PKCS #8"}},
		"x509.pem is RSA":       {rsa, []string{"x509.pem", "rsa", "expected ECDSA"}},
		"cosign.key is no key":  {fixtures.Secret{fixtures.CosignKey: []byte("garbage"), fixtures.CosignPassword: nil}, []string{"cosign.key"}},
		"no password":           {fixtures.Secret{fixtures.CosignKey: good[fixtures.CosignKey]}, []string{"cosign.key", "cosign.password"}},
		"wrong password":        {fixtures.Secret{fixtures.CosignKey: good[fixtures.CosignKey], fixtures.CosignPassword: []byte("s3cr3t-guess")}, []string{"cosign.key", "decrypt"}},
		"cosign.key is Ed25519": {ed25519, []string{"cosign.key", "ed25519", "expected ECDSA or RSA"}},
		"too long":              {fixtures.Secret{fixtures.X509Key: make([]byte, maxKeyFile+1)}, []string{"x509.pem", "longer than"}},
	}
}

func TestBadKeys(t *testing.T) {
	for name, tc := range badSecrets(t) {
		t.Run(name+" at start", func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, tc.secret)
			_, err := keeper(t, dir).Ring().Active(signing.TypeX509)
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
			k := keeper(t, dir)
			write(t, dir, tc.secret)
			if k.load(t.Context()); activeID(k) != keyID(t, public) {
				t.Errorf("the active key is %q, not the last good one", activeID(k))
			}
			checkRefusal(t, k.Ring().problems[signing.TypeX509], dir, tc.want)
			if k.load(t.Context()) {
				t.Error("the same bad key is news a second time")
			}
			write(t, dir, good)
			if k.load(t.Context()); k.Ring().problems[signing.TypeX509] != nil {
				t.Error("the problem outlives its cause")
			}
		})
	}
}

func checkRefusal(t *testing.T, err error, dir string, want []string) {
	t.Helper()
	if err == nil {
		t.Fatal("was accepted")
	}
	for _, s := range append(want, dir) {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
	if strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("%q tells the password", err)
	}
}

func TestMissingDirectoryThatAppears(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	k := keeper(t, dir)
	if activeID(k) != "" {
		t.Fatal("there is a key")
	}
	secret, public, err := fixtures.X509Secret()
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, secret)
	if !k.load(t.Context()) || activeID(k) != keyID(t, public) {
		t.Errorf("the active key is %q", activeID(k))
	}
}

func TestRotation(t *testing.T) {
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
	k := keeper(t, dir)
	key := must[*Key](t)(k.Ring().Active(signing.TypeX509))
	sig := must[[]byte](t)(key.Sign(t.Context(), []byte("message")))

	write(t, dir, second)
	if !k.load(t.Context()) || activeID(k) != keyID(t, secondPublic) {
		t.Fatalf("the active key is %q", activeID(k))
	}
	if found := k.Ring().Find(sig, []byte("message")); found == nil || found.ID != keyID(t, firstPublic) {
		t.Errorf("the key before is not known any more: found %v", found)
	}

	// After a restart only what the secret holds is known.
	if found := keeper(t, dir).Ring().Find(sig, []byte("message")); found != nil {
		t.Errorf("found %v", found)
	}
	second["retired-1.pub"] = must[[]byte](t)(cryptoutils.MarshalPublicKeyToPEM(firstPublic))
	write(t, dir, second)
	if found := keeper(t, dir).Ring().Find(sig, []byte("message")); found == nil {
		t.Error("a retired key in the secret is not known")
	}
}

func TestBadRetiredKey(t *testing.T) {
	secret, public, err := fixtures.CosignSecret()
	if err != nil {
		t.Fatal(err)
	}
	secret["old.pub"] = []byte("garbage")
	dir := t.TempDir()
	write(t, dir, secret)
	k := keeper(t, dir)
	if activeID(k) != keyID(t, public) {
		t.Errorf("the active key is %q", activeID(k))
	}
	checkRefusal(t, k.Ring().problems[retiredSource], dir, []string{"old.pub", "not a public key"})
}

func TestKMS(t *testing.T) {
	k := NewKeeper(t.TempDir(), func() {})
	kmsSettings := Settings{SignerTypes: []string{signing.TypeKMS}, KMS: chainsconfig.KMSSigner{KMSRef: fake.ReferenceScheme + "key"}}
	k.Configure(t.Context(), kmsSettings)
	key, err := k.Ring().Active(signing.TypeKMS)
	if err != nil {
		t.Fatal(err)
	}
	if sig, err := key.Sign(t.Context(), []byte("m")); err != nil || !key.Verify(sig, []byte("m")) {
		t.Errorf("signature %x, error %v", sig, err)
	}
	kmsSettings.KMS.KMSRef = "nosuchkms://key"
	k.Configure(t.Context(), kmsSettings)
	if again, err := k.Ring().Active(signing.TypeKMS); err != nil || again.ID != key.ID {
		t.Errorf("the last good key is gone: %v, %v", again, err)
	}
	if problem := k.Ring().problems[signing.TypeKMS]; problem == nil || !strings.Contains(problem.Error(), "nosuchkms://key") {
		t.Errorf("the problem is %v", problem)
	}
}

func TestASignerThatIsTurnedOffAndOnHasItsKey(t *testing.T) {
	secret, public, err := fixtures.X509Secret()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir, secret)
	k := keeper(t, dir)
	k.Configure(t.Context(), Settings{})
	if id := activeID(k); id != "" {
		t.Errorf("turned off, key %s is active", id)
	}
	k.Configure(t.Context(), x509Only)
	if id := activeID(k); id != keyID(t, public) {
		t.Errorf("turned on again, key %q is active", id)
	}
}
