// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	certificates "knative.dev/pkg/webhook/certificates/resources"

	"github.com/trusted-resources/chains-extension/pkg/observe"
)

func TestCertificateMetrics_ReadTheFilesOfTheEnvironment(t *testing.T) {
	_, authority, _, err := certificates.CreateCerts(t.Context(), "name", "namespace", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	longest := append(bytes.Repeat([]byte("\n"), maxCertificates-len(authority)), authority...)
	for name, tc := range map[string]struct {
		content []byte
		want    int
	}{
		"a certificate":         {authority, 1},
		"the longest file":      {longest, 1},
		"a longer file":         {append(longest, '\n'), 0},
		"a file without any":    {[]byte("none"), 0},
		"a file does not exist": {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "ca.pem")
			if tc.content != nil {
				if err := os.WriteFile(file, tc.content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for variable, use := range map[string]string{"SSL_CERT_FILE": "registry-ca", "VAULT_CACERT": "kms-ca"} {
				t.Run(variable, func(t *testing.T) {
					t.Setenv("SSL_CERT_FILE", "")
					t.Setenv("VAULT_CACERT", "")
					t.Setenv(variable, file)
					want := observe.CertificateNotAfter(use, authority)[:tc.want]
					if got := certificateMetrics(); !slices.Equal(got, want) {
						t.Errorf("got %+v, want %+v", got, want)
					}
				})
			}
		})
	}
}
