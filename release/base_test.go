// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/x509"
	"encoding/pem"
	"testing"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// A file of certificates trusts each of them without a condition.
func TestCertificates_LeaveOutConditionalTrust(t *testing.T) {
	conditional := map[string]bool{}
	total := 0
	for root := range bundle.Roots() {
		conditional[string(root.Certificate)] = root.Constraint != nil
		total++
	}
	found := 0
	for block, rest := pem.Decode(certificates()); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if conditional[string(certificate.Raw)] {
			t.Errorf("%s is trusted for some certificates only", certificate.Subject)
		}
		found++
	}
	leftOut := 0
	for _, is := range conditional {
		if is {
			leftOut++
		}
	}
	if found != total-leftOut {
		t.Errorf("%d authorities, want %d of %d", found, total-leftOut, total)
	}
}

func TestBaseImage_IsTheSameEachTime(t *testing.T) {
	digests := map[string]bool{}
	for range 2 {
		image, err := baseImage()
		if err != nil {
			t.Fatal(err)
		}
		digest, err := image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests[digest.String()] = true
	}
	if len(digests) != 1 {
		t.Errorf("got %v", digests)
	}
}

func TestOptions_RefuseWhatIsNoRelease(t *testing.T) {
	for _, o := range []options{
		{}, {version: "1.2.3"}, {version: "v1.2"}, {version: "v1.2.3+build"}, {version: "latest"},
		{version: "v1.2.3", repository: "without-a-registry"}, {version: "v1.2.3", repository: "registry.example/With/Capitals"},
	} {
		if err := o.check(); err == nil {
			t.Errorf("%+v: accepted", o)
		}
	}
	for _, o := range []options{{version: "v1.2.3"}, {version: "v0.1.0-rc.1", repository: "127.0.0.1:5000/controller"}} {
		if err := o.check(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
