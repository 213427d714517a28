// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trusted-resources/chains-extension/test/fixtures"
)

// For any content of x509.pem and *.pub, loading returns a usable key or an error
// that names the file. cosign.key is not fuzzed: it is encrypted.
func FuzzKeyFiles(f *testing.F) {
	ecdsa, _, err := fixtures.X509Secret()
	if err != nil {
		f.Fatal(err)
	}
	rsa, err := fixtures.RSASecret()
	if err != nil {
		f.Fatal(err)
	}
	cosign, _, err := fixtures.CosignSecret()
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{ecdsa[fixtures.X509Key], rsa[fixtures.X509Key], cosign[fixtures.CosignPub], nil, []byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----")} {
		f.Add(seed)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, name := range []string{x509File, "retired.pub", "revoked-1.pub"} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		contents, err := readFiles(dir)
		if err != nil {
			checkNamesFile(t, err, dir)
			return
		}
		if _, err := contents.signer(dir); err != nil {
			checkNamesFile(t, err, dir)
		}
		retired, err := contents.retiredKeys(dir)
		if err != nil {
			checkNamesFile(t, err, dir)
		}
		revoked, err := contents.revokedKeys(dir)
		if err != nil {
			checkNamesFile(t, err, dir)
		}
		if len(retired) > len(revoked) {
			t.Error("a key can be retired but not revoked")
		}
	})
}

func checkNamesFile(t *testing.T, err error, dir string) {
	t.Helper()
	if !strings.Contains(err.Error(), dir) {
		t.Errorf("%q does not name the file", err)
	}
}
