package imagesignature

import (
	"bytes"
	"errors"
	"testing"
)

// A bundle that verifies says the same as the one that was made.
func FuzzSigstoreBundle(f *testing.F) {
	key := newKey(f)
	made := signed(f, anImage, key)
	want := byHand(f, made, key.PublicKey())
	f.Add(made)
	f.Add(signed(f, another, key))
	f.Add(signed(f, anImage, newKey(f)))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","dsseEnvelope":{},"verificationMaterial":{"publicKey":{}}}`))
	f.Fuzz(func(t *testing.T, bundle []byte) {
		found, err := Verify(bundle, anImage, only(key))
		if err != nil {
			if !errors.Is(err, ErrNotVerified) || found != nil {
				t.Fatalf("got %v and %v", found, err)
			}
			return
		}
		var got envelope
		if err := protojsonEnvelope(bundle, &got); err != nil || !bytes.Equal(got.DSSE.Payload, want.DSSE.Payload) || got.DSSE.PayloadType != want.DSSE.PayloadType {
			t.Fatalf("took %q (%v)", bundle, err)
		}
	})
}
