// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"testing"
	"time"

	certificates "knative.dev/pkg/webhook/certificates/resources"
)

func TestCertificateNotAfter_IsTheFirst(t *testing.T) {
	late, early := time.Now().Add(time.Hour), time.Now().Add(time.Minute)
	var bundle []byte
	for _, notAfter := range []time.Time{late, early} {
		_, certificate, _, err := certificates.CreateCerts(t.Context(), "name", "namespace", notAfter)
		if err != nil {
			t.Fatal(err)
		}
		bundle = append(bundle, certificate...)
	}
	got := CertificateNotAfter("webhook", bundle)
	if len(got) != 1 || got[0].value != float64(early.Unix()) || got[0].values[0] != "webhook" {
		t.Errorf("got %+v, want %d", got, early.Unix())
	}
	for _, unreadable := range []string{"", "garbage"} {
		if got := CertificateNotAfter("webhook", []byte(unreadable)); got != nil {
			t.Errorf("%q: got %+v", unreadable, got)
		}
	}
}
