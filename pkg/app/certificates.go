// SPDX-License-Identifier: Apache-2.0

package app

import (
	"os"

	"github.com/trusted-resources/chains-extension/pkg/keys"
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
// expire. It returns nothing about a file that cannot be read or is longer than
// maxCertificates.
func certificateMetrics() (all []observe.Measurement) {
	for variable, use := range certificateFiles {
		if content, err := keys.ReadFile(os.Getenv(variable), maxCertificates); err == nil {
			all = append(all, observe.CertificateNotAfter(use, content)...)
		}
	}
	return all
}
