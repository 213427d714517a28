// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	chainsconfig "github.com/tektoncd/chains/pkg/config"

	"github.com/trusted-resources/chains-extension/pkg/keys"
)

const vaultRef = "hashivault://tekton"

// withToken returns settings that reach a fake, with a token in a file.
func withToken(t *testing.T, f *fakeVault) func() chainsconfig.KMSAuth {
	t.Helper()
	return auth(chainsconfig.KMSAuth{Address: f.address, TokenPath: writeSecret(t, f.tokens[0])})
}

// withLogin returns settings that reach a fake, with a login.
func withLogin(t *testing.T, f *fakeVault) func() chainsconfig.KMSAuth {
	t.Helper()
	return auth(chainsconfig.KMSAuth{Address: f.address, OIDC: chainsconfig.KMSAuthOIDC{
		Path: "jwt", Role: fakeRole, TokenPath: writeSecret(t, fakeJWT),
	}})
}

func auth(settings chainsconfig.KMSAuth) func() chainsconfig.KMSAuth {
	return func() chainsconfig.KMSAuth { return settings }
}

func writeSecret(t *testing.T, content string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "token")
	check(t, os.WriteFile(path, []byte(content+"\n"), 0o600))
	return path
}

func p256Versions(t *testing.T, n int) (versions []fakeKey) {
	t.Helper()
	for range n {
		versions = append(versions, ecdsaKey(t, elliptic.P256(), "", crypto.SHA256))
	}
	return versions
}

func idOf(t *testing.T, key fakeKey) string {
	t.Helper()
	id, err := keys.KeyID(key.Public())
	check(t, err)
	return id
}

// A newer version changes nothing but what LatestVersion returns.
func TestKMSOfVault_SignsWithThePinnedVersionOnly(t *testing.T) {
	for _, ref := range []string{vaultRef, "openbao://tekton"} {
		f := startFakeVault(t, p256Versions(t, 3)...)
		kms := keys.NewKMS(withToken(t, f))
		key, err := kms.Key(t.Context(), ref, "2")
		check(t, err)
		if want := idOf(t, f.versions[1]); key.ID != want {
			t.Errorf("got key %s, want %s", key.ID, want)
		}
		checkTektonAccepts(t, key)
		checkLatest(t, kms, ref, "3")

		f.set(func(f *fakeVault) { f.versions = append(f.versions, p256Versions(t, 1)...) })
		checkTektonAccepts(t, key)
		checkLatest(t, kms, ref, "4")
		f.set(func(f *fakeVault) {
			if slices.ContainsFunc(f.asked, func(version string) bool { return version != "2" }) {
				t.Errorf("asked Vault to sign with the versions %v, want 2 only", f.asked)
			}
		})
	}
}

func checkLatest(t *testing.T, kms *keys.KMS, ref, want string) {
	t.Helper()
	latest, err := kms.LatestVersion(t.Context(), ref)
	if err != nil || latest != want {
		t.Errorf("latest version is %q (error %v), want %q", latest, err, want)
	}
}

func TestKMSOfVault_RefusesWhatItCannotSignWith(t *testing.T) {
	for name, tc := range map[string]struct {
		change  func(*fakeVault)
		version string
		auth    func(*testing.T, *fakeVault) func() chainsconfig.KMSAuth
		want    string
	}{
		"no such version":     {version: "7", want: "no such version in Vault: the latest is 3"},
		"old version":         {version: "1", change: func(f *fakeVault) { f.min = 2 }, want: "older than min_decryption_version, which is 2"},
		"sealed":              {change: func(f *fakeVault) { f.sealed = true }, want: "status 503 from Vault: Vault is sealed"},
		"login while sealed":  {change: func(f *fakeVault) { f.sealed = true }, auth: withLogin, want: `role "signer" at auth/jwt: status 503 from Vault: Vault is sealed`},
		"token is not known":  {change: func(f *fakeVault) { f.tokens = nil }, want: "status 403 from Vault: permission denied"},
		"Ed25519":             {change: func(f *fakeVault) { f.keyType = "ed25519" }, want: `type "ed25519", expected ECDSA or RSA`},
		"a symmetric key":     {change: func(f *fakeVault) { f.keyType = "aes256-gcm96" }, want: `type "aes256-gcm96", expected ECDSA or RSA`},
		"other version signs": {change: func(f *fakeVault) { f.signs = 3 }, want: "does not verify"},
		"no address":          {auth: func(*testing.T, *fakeVault) func() chainsconfig.KMSAuth { return noAuth }, want: "signers.kms.auth.address"},
		"inline token": {auth: func(_ *testing.T, f *fakeVault) func() chainsconfig.KMSAuth {
			return auth(chainsconfig.KMSAuth{Address: f.address, Token: f.tokens[0]})
		}, want: "there is no token"},
		"SPIRE": {auth: func(_ *testing.T, f *fakeVault) func() chainsconfig.KMSAuth {
			return auth(chainsconfig.KMSAuth{Address: f.address, Spire: chainsconfig.KMSAuthSpire{Sock: "unix:///tmp/none"}})
		}, want: "cannot log in with SPIRE"},
		"empty token file": {auth: func(t *testing.T, f *fakeVault) func() chainsconfig.KMSAuth {
			t.Helper()
			return auth(chainsconfig.KMSAuth{Address: f.address, TokenPath: writeSecret(t, "")})
		}, want: "found no token in the file"},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFakeVault(t, p256Versions(t, 3)...)
			version, settings := "2", withToken
			if tc.version != "" {
				version = tc.version
			}
			if tc.auth != nil {
				settings = tc.auth
			}
			source := settings(t, f)
			if tc.change != nil {
				f.set(tc.change)
			}
			_, err := keys.NewKMS(source).Key(t.Context(), vaultRef, version)
			checkNames(t, err, vaultRef, `version "`+version+`"`, tc.want)
			checkNoSecret(t, err)
		})
	}
}

// The public half of a loaded key verifies whatever happens at Vault, and errors of the key
// name the version. When Vault works again, the key signs.
func TestKMSOfVault_KeepsTheKeyWhileVaultFails(t *testing.T) {
	for name, tc := range map[string]struct {
		fail, repair func(*fakeVault)
		want         string
	}{
		"sealed": {
			func(f *fakeVault) { f.sealed = true }, func(f *fakeVault) { f.sealed = false }, "Vault is sealed",
		},
		"hangs": {
			func(f *fakeVault) { f.hangs = make(chan struct{}) },
			func(f *fakeVault) { close(f.hangs); f.hangs = nil }, "no answer in time",
		},
		"min_decryption_version raised": {
			func(f *fakeVault) { f.min = 3 }, func(f *fakeVault) { f.min = 1 }, "older than min_decryption_version, which is 3",
		},
		"another version signs": {
			func(f *fakeVault) { f.signs = 3 }, func(f *fakeVault) { f.signs = 0 }, "does not verify",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFakeVault(t, p256Versions(t, 3)...)
			key, err := keys.NewKMS(withToken(t, f)).Key(t.Context(), vaultRef, "2")
			check(t, err)
			before, err := key.Sign(t.Context(), []byte("message"))
			check(t, err)

			f.set(tc.fail)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			_, err = key.Sign(ctx, []byte("message"))
			if !errors.Is(err, keys.ErrSigner) {
				t.Errorf("got error %v, want %v", err, keys.ErrSigner)
			}
			checkNames(t, err, vaultRef, `version "2"`, key.ID, tc.want)
			checkNoSecret(t, err)
			if !key.Verify(before, []byte("message")) {
				t.Error("the key does not verify its signature")
			}
			f.set(tc.repair)
			checkTektonAccepts(t, key)
		})
	}
}

// A token that a login gave ends. The key logs in again, once, and signs.
func TestKMSOfVault_LogsInAgain(t *testing.T) {
	f := startFakeVault(t, p256Versions(t, 2)...)
	key, err := keys.NewKMS(withLogin(t, f)).Key(t.Context(), vaultRef, "1")
	check(t, err)
	checkTektonAccepts(t, key)
	f.set(func(f *fakeVault) { f.tokens = nil })
	checkTektonAccepts(t, key)
	checkTektonAccepts(t, key)
	f.set(func(f *fakeVault) {
		if f.logins != 2 {
			t.Errorf("got %d logins, want 2", f.logins)
		}
	})
}

func TestKMSOfVault_LogsInAgainForManyAtOnce(t *testing.T) {
	f := startFakeVault(t, p256Versions(t, 1)...)
	key, err := keys.NewKMS(withLogin(t, f)).Key(t.Context(), vaultRef, "1")
	check(t, err)
	f.set(func(f *fakeVault) { f.tokens = nil })
	var signers sync.WaitGroup
	for range 16 {
		signers.Go(func() {
			if _, err := key.Sign(t.Context(), []byte("message")); err != nil {
				t.Error(err)
			}
		})
	}
	signers.Wait()
}

// Without the right to sign, each signature costs one more login, not an endless loop.
func TestKMSOfVault_GivesUpWhenANewTokenIsRefusedToo(t *testing.T) {
	f := startFakeVault(t, p256Versions(t, 1)...)
	settings := withToken(t, f)
	key, err := keys.NewKMS(settings).Key(t.Context(), vaultRef, "1")
	check(t, err)
	f.set(func(f *fakeVault) { f.tokens = nil })
	_, err = key.Sign(t.Context(), []byte("message"))
	checkNames(t, err, vaultRef, "status 403 from Vault: permission denied")
}

// A changed setting or token file counts at once, also if the old token is still good.
func TestKMSOfVault_FollowsSettingsAndTokenFile(t *testing.T) {
	versions := p256Versions(t, 1)
	f, moved := startFakeVault(t, versions...), startFakeVault(t, versions...)
	settings := withToken(t, f)()
	key, err := keys.NewKMS(func() chainsconfig.KMSAuth { return settings }).Key(t.Context(), vaultRef, "1")
	check(t, err)
	renewed := tokenPrefix + "renewed"
	f.set(func(f *fakeVault) { f.tokens = append(f.tokens, renewed) })
	check(t, os.WriteFile(settings.TokenPath, []byte(renewed), 0o600))
	checkTektonAccepts(t, key)
	f.set(func(f *fakeVault) {
		if f.used != renewed {
			t.Error("the key uses the old token")
		}
	})

	moved.set(func(f *fakeVault) { f.tokens = []string{renewed} })
	settings.Address = moved.address
	checkTektonAccepts(t, key)
	moved.set(func(f *fakeVault) {
		if len(f.asked) == 0 {
			t.Error("the key does not use the new address")
		}
	})
}

func checkNoSecret(t *testing.T, err error) {
	t.Helper()
	for _, secret := range []string{tokenPrefix, fakeJWT} {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%v has a secret", err)
		}
	}
}
