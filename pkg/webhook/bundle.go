// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"
)

// withPrevious returns the certificate authority in ca, and the newest other one of the
// bundle that has not expired. A replica may serve its previous certificate for some
// moments after a rotation.
func withPrevious(ca, bundle []byte, now time.Time) []byte {
	ca = slices.Concat(bytes.TrimSpace(ca), []byte("\n"))
	for rest := bundle; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return ca
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		other := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})
		if err == nil && now.Before(certificate.NotAfter) && !bytes.Equal(other, ca) {
			return slices.Concat(ca, other)
		}
	}
}
