// SPDX-License-Identifier: Apache-2.0

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
	image      = digest.Digest("sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae")
	otherImage = digest.Digest("sha256:fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9")
)

// loadKey loads the key of a signing secret.
func loadKey(t testing.TB, secret fixtures.Secret) *keys.Key {
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
	return loadKey(t, secret)
}

func newCosignKey(t testing.TB) *keys.Key {
	t.Helper()
	secret, _, err := fixtures.CosignSecret()
	if err != nil {
		t.Fatal(err)
	}
	return loadKey(t, secret)
}

// newRSAKey returns an RSA key as cosign import-key-pair writes it.
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
	return loadKey(t, fixtures.Secret{fixtures.CosignKey: pair.PrivateBytes, fixtures.CosignPassword: []byte("demo")})
}

func mustSign(t testing.TB, image digest.Digest, key *keys.Key) []byte {
	t.Helper()
	bundle, err := Sign(context.Background(), image, key, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

func onlyKey(key *keys.Key) []*keys.Key { return []*keys.Key{key} }

// verifyWithCosign verifies a bundle with cosign's verifier.
func verifyWithCosign(t testing.TB, content []byte, image digest.Digest, public crypto.PublicKey) error {
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
	if err := bundle.UnmarshalJSON(content); err != nil {
		return err
	}
	options := &cosign.CheckOpts{SigVerifier: verifier, IgnoreTlog: true, NewBundleFormat: true, TrustedMaterial: root.TrustedMaterialCollection{}}
	_, err = cosign.VerifyNewBundle(context.Background(), options, verify.WithArtifactDigest(image.Algorithm().String(), sum), &bundle)
	return err
}

// envelope has the fields of a Sigstore bundle that the tests read.
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

// verifyEnvelope verifies the signature as the specification of DSSE says
// (protocol.md in secure-systems-lab/dsse), with the standard library only.
func verifyEnvelope(t testing.TB, bundle []byte, public crypto.PublicKey) envelope {
	t.Helper()
	var e envelope
	if err := json.Unmarshal(bundle, &e); err != nil || len(e.DSSE.Signatures) != 1 {
		t.Fatalf("got %v: %s", err, bundle)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(e.DSSE.PayloadType), e.DSSE.PayloadType, len(e.DSSE.Payload), e.DSSE.Payload))
	valid := false
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		valid = ecdsa.VerifyASN1(public, sum[:], e.DSSE.Signatures[0].Sig)
	case *rsa.PublicKey:
		valid = rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], e.DSSE.Signatures[0].Sig) == nil
	}
	if !valid {
		t.Errorf("the signature by %T does not verify: %s", public, bundle)
	}
	return e
}

func TestSign_IsCompatibleWithCosign(t *testing.T) {
	for name, key := range map[string]*keys.Key{"x509.pem": newKey(t), "cosign.key": newCosignKey(t), "RSA": newRSAKey(t)} {
		t.Run(name, func(t *testing.T) {
			bundle := mustSign(t, image, key)
			if found, err := Verify(bundle, image, []*keys.Key{newKey(t), key}); err != nil || found != key {
				t.Errorf("got %v and %v", found, err)
			}
			if err := verifyWithCosign(t, bundle, image, key.PublicKey()); err != nil {
				t.Errorf("cosign: %v", err)
			}
			if err := verifyWithCosign(t, bundle, otherImage, key.PublicKey()); err == nil {
				t.Error("cosign accepts the signature for another image")
			}
			e := verifyEnvelope(t, bundle, key.PublicKey())
			if e.MediaType != "application/vnd.dev.sigstore.bundle.v0.3+json" || e.DSSE.PayloadType != "application/vnd.in-toto+json" ||
				len(e.VerificationMaterial.TlogEntries) != 0 || len(e.VerificationMaterial.PublicKey.Hint) != 44 {
				t.Errorf("got %+v", e)
			}
			checkStatement(t, e.DSSE.Payload)
		})
	}
}

// checkStatement checks all fields of a statement, and that there are no others.
func checkStatement(t *testing.T, payload []byte) {
	t.Helper()
	var statement map[string]any
	if err := json.Unmarshal(payload, &statement); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": map[string]any{},
		"subject": []any{map[string]any{"digest": map[string]any{"sha256": image.Encoded()}}},
	}
	if fmt.Sprint(statement) != fmt.Sprint(want) {
		t.Errorf("got statement %v", statement)
	}
}

// signStatement signs any content as the payload of an envelope.
func signStatement(t testing.TB, key *keys.Key, content, payloadType string) []byte {
	t.Helper()
	return signContent(t, key, &sign.DSSEData{Data: []byte(content), PayloadType: payloadType})
}

// signContent signs any content in a Sigstore bundle.
func signContent(t testing.TB, key *keys.Key, content sign.Content) []byte {
	t.Helper()
	bundle, err := sign.Bundle(content, keypair{key}, sign.BundleOptions{})
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := protojson.Marshal(bundle)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func statementJSON(predicateType, subject string) string {
	return fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":%s,"predicateType":%q,"predicate":{}}`, subject, predicateType)
}

// The trusted key signed each bundle, but none is a signature of this image.
func TestVerify_RejectsOtherSignedContent(t *testing.T) {
	key := newKey(t)
	const inTotoType = "application/vnd.in-toto+json"
	subject := fmt.Sprintf(`[{"digest":{"sha256":%q}}]`, image.Encoded())
	if _, err := Verify(signStatement(t, key, statementJSON(PredicateType, subject), inTotoType), image, onlyKey(key)); err != nil {
		t.Fatalf("the valid signature: %v", err)
	}
	provenance := signStatement(t, key, statementJSON("https://slsa.dev/provenance/v1", subject), inTotoType)
	if err := verifyWithCosign(t, provenance, image, key.PublicKey()); err != nil {
		t.Fatalf("cosign rejects the provenance: %v", err)
	}
	for name, bundle := range map[string][]byte{
		"SLSA provenance":              provenance,
		"no predicate type":            signStatement(t, key, statementJSON("", subject), inTotoType),
		"longer predicate type":        signStatement(t, key, statementJSON(PredicateType+"/x", subject), inTotoType),
		"other payload type":           signStatement(t, key, statementJSON(PredicateType, subject), "text/plain"),
		"payload is not a statement":   signStatement(t, key, `"x"`, inTotoType),
		"no subject":                   signStatement(t, key, statementJSON(PredicateType, "[]"), inTotoType),
		"other subject":                mustSign(t, otherImage, key),
		"other digest function":        signStatement(t, key, statementJSON(PredicateType, fmt.Sprintf(`[{"digest":{"sha512":%q}}]`, image.Encoded())), inTotoType),
		"digest as plain message":      signContent(t, key, &sign.PlainData{Data: []byte(image)}),
		"message with digest of image": signContent(t, key, &sign.PlainData{Data: []byte("foo")}), // image is the digest of "foo"
	} {
		if found, err := Verify(bundle, image, onlyKey(key)); !errors.Is(err, ErrNotVerified) || found != nil {
			t.Errorf("%s: got %v and %v", name, found, err)
		}
	}
}

func TestVerify_RejectsInvalidBundles(t *testing.T) {
	key := newKey(t)
	bundle := mustSign(t, image, key)
	for name, tc := range map[string]struct {
		bundle []byte
		keys   []*keys.Key
	}{
		"other key":        {bundle, onlyKey(newKey(t))},
		"no trusted key":   {bundle, nil},
		"empty":            {nil, onlyKey(key)},
		"zero byte":        {[]byte("\x00"), onlyKey(key)},
		"empty object":     {[]byte("{}"), onlyKey(key)},
		"null":             {[]byte("null"), onlyKey(key)},
		"array":            {[]byte("[]"), onlyKey(key)},
		"media type only":  {fmt.Appendf(nil, `{"mediaType":%q}`, MediaType), onlyKey(key)},
		"truncated":        {bundle[:len(bundle)/2], onlyKey(key)},
		"other media type": {bytes.Replace(bundle, []byte("v0.3"), []byte("v0.9"), 1), onlyKey(key)},
		"two bundles":      {append(bytes.Clone(bundle), bundle...), onlyKey(key)},
		"too long":         {append(bytes.Clone(bundle), bytes.Repeat([]byte(" "), MaxBundle)...), onlyKey(key)},
		"deeply nested":    {[]byte(strings.Repeat("[", 100_000)), onlyKey(key)},
	} {
		if found, err := Verify(tc.bundle, image, tc.keys); !errors.Is(err, ErrNotVerified) || found != nil {
			t.Errorf("%s: got %v and %v", name, found, err)
		}
	}
	if _, err := Verify(append(bytes.Clone(bundle), bytes.Repeat([]byte(" "), MaxBundle-len(bundle))...), image, onlyKey(key)); err != nil {
		t.Errorf("a bundle of the maximum length: %v", err)
	}
	for _, other := range []digest.Digest{otherImage, "sha256:", "sha256:zz", "sha512:" + digest.Digest(image.Encoded()), image[:len(image)-2]} {
		if found, err := Verify(bundle, other, onlyKey(key)); !errors.Is(err, ErrNotVerified) || found != nil {
			t.Errorf("%s: got %v and %v", other, found, err)
		}
	}
}

// A change of unsigned fields, such as the hint, may be accepted. A change of the
// payload or the signature must not.
func TestVerify_RejectsChangeOfSignedBytes(t *testing.T) {
	key := newKey(t)
	bundle := mustSign(t, image, key)
	want := verifyEnvelope(t, bundle, key.PublicKey())
	accepted := 0
	for i := range bundle {
		for _, change := range []byte{1, 2, 0x20} {
			changed := bytes.Clone(bundle)
			changed[i] ^= change
			if _, err := Verify(changed, image, onlyKey(key)); err != nil {
				continue
			}
			accepted++
			var got envelope
			if err := parseEnvelope(changed, &got); err != nil || !bytes.Equal(got.DSSE.Payload, want.DSSE.Payload) || got.DSSE.PayloadType != want.DSSE.PayloadType {
				t.Errorf("byte %d: Verify accepted %s (%v)", i, changed, err)
			}
		}
	}
	if accepted > len(bundle)/2 {
		t.Errorf("Verify accepted %d of %d changed bundles", accepted, 3*len(bundle))
	}
}

// parseEnvelope parses a bundle with sigstore-go, which accepts other spellings of
// the JSON fields than encoding/json.
func parseEnvelope(content []byte, e *envelope) error {
	var bundle sgbundle.Bundle
	if err := bundle.UnmarshalJSON(content); err != nil {
		return err
	}
	e.DSSE.Payload, e.DSSE.PayloadType = bundle.GetDsseEnvelope().GetPayload(), bundle.GetDsseEnvelope().GetPayloadType()
	return nil
}

func TestSign_ReturnsErrorOfCancelledContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if bundle, err := Sign(ctx, image, newKey(t), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %s and %v", bundle, err)
	}
}
