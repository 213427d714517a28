// SPDX-License-Identifier: Apache-2.0

package app

import (
	"io"
	"os"

	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// maxCertificates bounds a file of certificate authorities, in bytes.
const maxCertificates = 1 << 20

// certificateFiles are the environment variables that name files of certificate authorities,
// and what these are for.
var certificateFiles = map[string]string{
	"SSL_CERT_FILE": "registry-ca", // of crypto/x509
	"VAULT_CACERT":  "kms-ca",      // of the client of HashiCorp Vault and OpenBao
}

// certificateMetrics returns when the certificate authorities that the environment names
// expire.
func certificateMetrics() (all []observe.Measurement) {
	for variable, use := range certificateFiles {
		if content, err := readBounded(os.Getenv(variable)); err == nil {
			all = append(all, observe.CertificateNotAfter(use, content)...)
		}
	}
	return all
}

func readBounded(name string) ([]byte, error) {
	file, err := os.Open(name) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // the file is only read
	return io.ReadAll(io.LimitReader(file, maxCertificates))
}
