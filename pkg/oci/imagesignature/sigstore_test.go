package imagesignature

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/cosign/v2/pkg/cosign"
	sgbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/tektoncd/chains/pkg/chains/signing"
	"go.uber.org/zap"
	"google.golang.org/protobuf/encoding/protojson"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/test/fixtures"
)

const (
	anImage = digest.Digest("sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae")
	another = digest.Digest("sha256:fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9")
)

func load(t testing.TB, secret fixtures.Secret) *keys.Key {
	t.Helper()
	dir := t.TempDir()
	if err := secret.Write(dir); err != nil {
		t.Fatal(err)
	}
	ctx := logging.WithLogger(context.Background(), zap.NewNop().Sugar())
	key, err := keys.Load(ctx, dir, keys.Settings{SignerTypes: []string{signing.TypeX509}}).Active(signing.TypeX509)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newKey(t testing.TB) *keys.Key {
	t.Helper()
	secret, _, err := fixtures.X509Secret()
	if err != nil {
		t.Fatal(err)
	}
	return load(t, secret)
}

func newCosignKey(t testing.TB) *keys.Key {
	t.Helper()
	secret, _, err := fixtures.CosignSecret()
	if err != nil {
		t.Fatal(err)
	}
	return load(t, secret)
}

// newRSAKey is one as cosign import-key-pair makes it.
func newRSAKey(t testing.TB) *keys.Key {
	t.Helper()
	plain, err := fixtures.RSASecret()
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := errors.Join(err, os.WriteFile(file, plain[fixtures.X509Key], 0o600)); err != nil {
		t.Fatal(err)
	}
	pair, err := cosign.ImportKeyPair(file, func(bool) ([]byte, error) { return []byte("demo"), nil })
	if err != nil {
		t.Fatal(err)
	}
	return load(t, fixtures.Secret{fixtures.CosignKey: pair.PrivateBytes, fixtures.CosignPassword: []byte("demo")})
}

func signed(t testing.TB, image digest.Digest, key *keys.Key) []byte {
	t.Helper()
	made, err := Sign(context.Background(), image, key, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func only(key *keys.Key) []*keys.Key { return []*keys.Key{key} }

// byCosign asks cosign's own verifier.
func byCosign(t testing.TB, made []byte, image digest.Digest, public crypto.PublicKey) error {
	t.Helper()
	verifier, err := signature.LoadVerifier(public, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := hex.DecodeString(image.Encoded())
	if err != nil {
		t.Fatal(err)
	}
	var bundle sgbundle.Bundle
	if err := bundle.UnmarshalJSON(made); err != nil {
		return err
	}
	options := &cosign.CheckOpts{SigVerifier: verifier, IgnoreTlog: true, NewBundleFormat: true, TrustedMaterial: root.TrustedMaterialCollection{}}
	_, err = cosign.VerifyNewBundle(context.Background(), options, verify.WithArtifactDigest(image.Algorithm().String(), sum), &bundle)
	return err
}

// envelope is what we know of the format, from its specification.
type envelope struct {
	MediaType            string `json:"mediaType"`
	VerificationMaterial struct {
		PublicKey struct {
			Hint string `json:"hint"`
		} `json:"publicKey"`
		TlogEntries []any `json:"tlogEntries"`
	} `json:"verificationMaterial"`
	DSSE struct {
		Payload     []byte `json:"payload"`
		PayloadType string `json:"payloadType"`
		Signatures  []struct {
			Sig []byte `json:"sig"`
		} `json:"signatures"`
	} `json:"dsseEnvelope"`
}

// byHand verifies what DSSE says (protocol.md in secure-systems-lab/dsse) with
// the standard library.
func byHand(t testing.TB, made []byte, public crypto.PublicKey) envelope {
	t.Helper()
	var e envelope
	if err := json.Unmarshal(made, &e); err != nil || len(e.DSSE.Signatures) != 1 {
		t.Fatalf("got %v: %s", err, made)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(e.DSSE.PayloadType), e.DSSE.PayloadType, len(e.DSSE.Payload), e.DSSE.Payload))
	ok := false
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(public, sum[:], e.DSSE.Signatures[0].Sig)
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], e.DSSE.Signatures[0].Sig) == nil
	}
	if !ok {
		t.Errorf("the signature by %T does not verify: %s", public, made)
	}
	return e
}

func TestASignatureIsWhatCosignMakes(t *testing.T) {
	for name, key := range map[string]*keys.Key{"x509.pem": newKey(t), "cosign.key": newCosignKey(t), "RSA": newRSAKey(t)} {
		t.Run(name, func(t *testing.T) {
			made := signed(t, anImage, key)
			if found, err := Verify(made, anImage, []*keys.Key{newKey(t), key}); err != nil || found != key {
				t.Errorf("got %v and %v", found, err)
			}
			if err := byCosign(t, made, anImage, key.PublicKey()); err != nil {
				t.Errorf("cosign: %v", err)
			}
			if err := byCosign(t, made, another, key.PublicKey()); err == nil {
				t.Error("cosign takes it for another image")
			}
			e := byHand(t, made, key.PublicKey())
			if e.MediaType != "application/vnd.dev.sigstore.bundle.v0.3+json" || e.DSSE.PayloadType != "application/vnd.in-toto+json" ||
				len(e.VerificationMaterial.TlogEntries) != 0 || len(e.VerificationMaterial.PublicKey.Hint) != 44 {
				t.Errorf("got %+v", e)
			}
			states(t, e.DSSE.Payload)
		})
	}
}

// states checks what a statement says, and that it says no more.
func states(t *testing.T, payload []byte) {
	t.Helper()
	var statement map[string]any
	if err := json.Unmarshal(payload, &statement); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": map[string]any{},
		"subject": []any{map[string]any{"digest": map[string]any{"sha256": anImage.Encoded()}}},
	}
	if fmt.Sprint(statement) != fmt.Sprint(want) {
		t.Errorf("got statement %v", statement)
	}
}

// statement is one of another kind than ours, signed all the same.
func statement(t testing.TB, key *keys.Key, content, payloadType string) []byte {
	t.Helper()
	return wrapped(t, key, &sign.DSSEData{Data: []byte(content), PayloadType: payloadType})
}

func wrapped(t testing.TB, key *keys.Key, content sign.Content) []byte {
	t.Helper()
	made, err := sign.Bundle(content, keypair{key}, sign.BundleOptions{})
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := protojson.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func inToto(predicateType, subject string) string {
	return fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":%s,"predicateType":%q,"predicate":{}}`, subject, predicateType)
}

// Signed with a key that is trusted, and no signature of this image.
func TestOtherThingsThatTheKeySigned(t *testing.T) {
	key := newKey(t)
	const inTotoType = "application/vnd.in-toto+json"
	subject := fmt.Sprintf(`[{"digest":{"sha256":%q}}]`, anImage.Encoded())
	if _, err := Verify(statement(t, key, inToto(PredicateType, subject), inTotoType), anImage, only(key)); err != nil {
		t.Fatalf("a signature: %v", err)
	}
	provenance := statement(t, key, inToto("https://slsa.dev/provenance/v1", subject), inTotoType)
	if err := byCosign(t, provenance, anImage, key.PublicKey()); err != nil {
		t.Fatalf("cosign takes no provenance: %v", err)
	}
	for name, made := range map[string][]byte{
		"an SLSA attestation":     provenance,
		"no predicate type":       statement(t, key, inToto("", subject), inTotoType),
		"a longer predicate type": statement(t, key, inToto(PredicateType+"/x", subject), inTotoType),
		"another payload type":    statement(t, key, inToto(PredicateType, subject), "text/plain"),
		"no statement":            statement(t, key, `"x"`, inTotoType),
		"no subject":              statement(t, key, inToto(PredicateType, "[]"), inTotoType),
		"another subject":         signed(t, another, key),
		"another digest function": statement(t, key, inToto(PredicateType, fmt.Sprintf(`[{"digest":{"sha512":%q}}]`, anImage.Encoded())), inTotoType),
		"the digest itself":       wrapped(t, key, &sign.PlainData{Data: []byte(anImage)}),
		"a message":               wrapped(t, key, &sign.PlainData{Data: []byte("foo")}), // of which anImage is the digest
	} {
		if found, err := Verify(made, anImage, only(key)); !errors.Is(err, ErrNotVerified) || found != nil {
			t.Errorf("%s: got %v and %v", name, found, err)
		}
	}
}

func TestWhatIsNoSignature(t *testing.T) {
	key := newKey(t)
	made := signed(t, anImage, key)
	for name, tc := range map[string]struct {
		bundle []byte
		keys   []*keys.Key
	}{
		"another key":   {made, only(newKey(t))},
		"no key":        {made, nil},
		"nothing":       {nil, only(key)},
		"garbage":       {[]byte("\x00"), only(key)},
		"no bundle":     {[]byte("{}"), only(key)},
		"null":          {[]byte("null"), only(key)},
		"an array":      {[]byte("[]"), only(key)},
		"no content":    {fmt.Appendf(nil, `{"mediaType":%q}`, MediaType), only(key)},
		"half of it":    {made[:len(made)/2], only(key)},
		"another type":  {bytes.Replace(made, []byte("v0.3"), []byte("v0.9"), 1), only(key)},
		"two of it":     {append(bytes.Clone(made), made...), only(key)},
		"too long":      {append(bytes.Clone(made), bytes.Repeat([]byte(" "), MaxBundle)...), only(key)},
		"deeply nested": {[]byte(strings.Repeat("[", 100_000)), only(key)},
	} {
		if found, err := Verify(tc.bundle, anImage, tc.keys); !errors.Is(err, ErrNotVerified) || found != nil {
			t.Errorf("%s: got %v and %v", name, found, err)
		}
	}
	if _, err := Verify(append(bytes.Clone(made), bytes.Repeat([]byte(" "), MaxBundle-len(made))...), anImage, only(key)); err != nil {
		t.Errorf("the longest that is read: %v", err)
	}
	for _, image := range []digest.Digest{another, "sha256:", "sha256:zz", "sha512:" + digest.Digest(anImage.Encoded()), anImage[:len(anImage)-2]} {
		if found, err := Verify(made, image, only(key)); !errors.Is(err, ErrNotVerified) || found != nil {
			t.Errorf("%s: got %v and %v", image, found, err)
		}
	}
}

// A byte may change what nobody signs, as the hint; never what is signed, or
// the signature.
func TestEveryByteThatIsSignedCounts(t *testing.T) {
	key := newKey(t)
	made := signed(t, anImage, key)
	want := byHand(t, made, key.PublicKey())
	accepted := 0
	for i := range made {
		for _, change := range []byte{1, 2, 0x20} {
			changed := bytes.Clone(made)
			changed[i] ^= change
			if _, err := Verify(changed, anImage, only(key)); err != nil {
				continue
			}
			accepted++
			var got envelope
			if err := protojsonEnvelope(changed, &got); err != nil || !bytes.Equal(got.DSSE.Payload, want.DSSE.Payload) || got.DSSE.PayloadType != want.DSSE.PayloadType {
				t.Errorf("byte %d: took %s (%v)", i, changed, err)
			}
		}
	}
	if accepted > len(made)/2 {
		t.Errorf("took %d of %d changed bundles", accepted, 3*len(made))
	}
}

// protojsonEnvelope reads a bundle as the library does, which knows other
// spellings of the same fields.
func protojsonEnvelope(made []byte, e *envelope) error {
	var bundle sgbundle.Bundle
	if err := bundle.UnmarshalJSON(made); err != nil {
		return err
	}
	e.DSSE.Payload, e.DSSE.PayloadType = bundle.GetDsseEnvelope().GetPayload(), bundle.GetDsseEnvelope().GetPayloadType()
	return nil
}

func TestNobodyWaitsForASignatureThatIsNotWanted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if made, err := Sign(ctx, anImage, newKey(t), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %s and %v", made, err)
	}
}
