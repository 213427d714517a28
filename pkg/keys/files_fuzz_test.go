// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/test/fixtures"
)

// For any content of x509.pem and retired.pub, loading returns a usable key or an
// error that names the file. cosign.key is not fuzzed: it is encrypted.
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
	ctx := logging.WithLogger(context.Background(), zap.NewNop().Sugar())
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, name := range []string{x509File, "retired.pub"} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		contents, err := readFiles(dir)
		if err != nil {
			checkNamesFile(t, err, dir)
			return
		}
		key, err := contents.signingKey(ctx, dir)
		switch {
		case err != nil:
			checkNamesFile(t, err, dir)
		case key.ID == "":
			t.Error("the key has no ID")
		}
		if _, err := contents.retiredKeys(dir); err != nil {
			checkNamesFile(t, err, dir)
		}
	})
}

func checkNamesFile(t *testing.T, err error, dir string) {
	t.Helper()
	if !strings.Contains(err.Error(), dir) {
		t.Errorf("%q does not name the file", err)
	}
}
