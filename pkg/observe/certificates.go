// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"time"

	"k8s.io/client-go/util/cert"
)

// CertificateNotAfter says when the first of some certificates in PEM expires. It returns
// nothing if there are none that can be read. use says what the certificates are for.
func CertificateNotAfter(use string, pem []byte) []Measurement {
	certificates, err := cert.ParseCertsPEM(pem)
	if err != nil {
		return nil
	}
	var first time.Time
	for _, c := range certificates {
		if first.IsZero() || c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return []Measurement{measurement(float64(first.Unix()), certificateNotAfter, use)}
}
