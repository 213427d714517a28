// SPDX-License-Identifier: Apache-2.0

package imagesignature

import (
	"bytes"
	"errors"
	"testing"
)

// A bundle that verifies has the same payload as the bundle that Sign made.
func FuzzSigstoreBundle(f *testing.F) {
	key := newKey(f)
	bundle := mustSign(f, image, key)
	want := verifyEnvelope(f, bundle, key.PublicKey())
	f.Add(bundle)
	f.Add(mustSign(f, otherImage, key))
	f.Add(mustSign(f, image, newKey(f)))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","dsseEnvelope":{},"verificationMaterial":{"publicKey":{}}}`))
	f.Fuzz(func(t *testing.T, bundle []byte) {
		found, err := Verify(bundle, image, onlyKey(key))
		if err != nil {
			if !errors.Is(err, ErrNotVerified) || found != nil {
				t.Fatalf("got %v and %v", found, err)
			}
			return
		}
		var got envelope
		if err := parseEnvelope(bundle, &got); err != nil || !bytes.Equal(got.DSSE.Payload, want.DSSE.Payload) || got.DSSE.PayloadType != want.DSSE.PayloadType {
			t.Fatalf("Verify accepted %q (%v)", bundle, err)
		}
	})
}
