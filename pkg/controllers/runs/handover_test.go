// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/dsse"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/tektoncd/chains/pkg/chains/annotations"
	"github.com/tektoncd/chains/pkg/chains/objects"
	"github.com/tektoncd/chains/pkg/chains/storage"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/controller"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/test/fixtures"
)

// stored is a storage backend. It keeps an attestation ("taskrun") and the signature
// of an image ("image").
type stored struct {
	artifacts map[string]artifact
	fail      map[string]error
}

type artifact struct {
	payload   []byte
	signature string
}

func (s *stored) StorePayload(_ context.Context, _ objects.TektonObject, payload []byte, sig string, opts chainsconfig.StorageOpts) error {
	kind := "image"
	if strings.HasPrefix(opts.ShortKey, "taskrun-") {
		kind = "taskrun"
	}
	if err := s.fail[kind]; err != nil {
		return err
	}
	s.artifacts[kind] = artifact{payload, sig}
	return nil
}

func (*stored) RetrievePayloads(context.Context, objects.TektonObject, chainsconfig.StorageOpts) (map[string]string, error) {
	return nil, nil
}

func (*stored) RetrieveSignatures(context.Context, objects.TektonObject, chainsconfig.StorageOpts) (map[string][]string, error) {
	return nil, nil
}

func (*stored) Type() string { return "tekton" }

// signersByType are the signers of a test. A type without one is not set.
type signersByType map[string]any

func (s signersByType) RunSigner(_ context.Context, signerType string, settings chainsconfig.KMSSigner) (signature.SignerVerifier, error) {
	switch found := s[signerType].(type) {
	case signature.SignerVerifier:
		return found, nil
	case error:
		return nil, found
	}
	return nil, fmt.Errorf("%s: %w", settings.KMSRef, keys.ErrNotSet)
}

func newSigner(t *testing.T) signature.SignerVerifier {
	t.Helper()
	signer, _, err := signature.NewDefaultECDSASignerVerifier()
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// build returns a TaskRun that has built an image.
func build() *objects.TaskRunObjectV1 {
	return objects.NewTaskRunObjectV1(&v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "run", UID: "uid"},
		Status: v1.TaskRunStatus{TaskRunStatusFields: v1.TaskRunStatusFields{Results: []v1.TaskRunResult{
			{Name: "IMAGE_URL", Value: *v1.NewStructuredValues("registry.example/app")},
			{Name: "IMAGE_DIGEST", Value: *v1.NewStructuredValues("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")},
		}}},
	})
}

// Each artifact is signed by the signer that is configured for it, or the run is not
// marked as signed.
func TestRunSigner_SignsEachArtifactWithItsSigner(t *testing.T) {
	x509, kmsSigner, broken := newSigner(t), newSigner(t), fmt.Errorf("%w: garbage", keys.ErrNoKey)
	failing := errors.New("the storage is away")
	both := signersByType{"x509": x509, "kms": kmsSigner}
	for name, tc := range map[string]struct {
		ofRun, ofImages string
		signers         signersByType
		fail            map[string]error
		refused         bool
		run, image      signature.Verifier // by which the artifact is signed, nil: not signed
		mark            string             // "": none
		unset           bool
	}{
		"the same signer":                  {ofRun: "x509", ofImages: "x509", signers: both, run: x509, image: x509, mark: "true"},
		"x509 and KMS":                     {ofRun: "x509", ofImages: "kms", signers: both, run: x509, image: kmsSigner, mark: "true"},
		"KMS and x509":                     {ofRun: "kms", ofImages: "x509", signers: both, run: kmsSigner, image: x509, mark: "true"},
		"images not signed":                {ofRun: "kms", ofImages: "none", signers: both, run: kmsSigner, mark: "true"},
		"runs not signed":                  {ofRun: "none", ofImages: "kms", signers: both, image: kmsSigner, mark: "true"},
		"nothing signed":                   {ofRun: "none", ofImages: "none", signers: both, mark: "true"},
		"no usable key":                    {ofRun: "x509", ofImages: "x509", signers: signersByType{"x509": broken}, refused: true},
		"no usable key for images":         {ofRun: "kms", ofImages: "x509", signers: signersByType{"x509": broken, "kms": kmsSigner}, refused: true},
		"no usable key for runs":           {ofRun: "x509", ofImages: "kms", signers: signersByType{"x509": broken, "kms": kmsSigner}, refused: true},
		"no key for images":                {ofRun: "kms", ofImages: "x509", signers: signersByType{"kms": kmsSigner}, run: kmsSigner, mark: "true"},
		"no key for runs":                  {ofRun: "x509", ofImages: "kms", signers: signersByType{"kms": kmsSigner}, image: kmsSigner, mark: "true", unset: true},
		"no key":                           {ofRun: "x509", ofImages: "x509", signers: signersByType{}, mark: "true", unset: true},
		"attestation cannot be stored":     {ofRun: "x509", ofImages: "kms", signers: both, fail: map[string]error{"taskrun": failing}},
		"image signature cannot be stored": {ofRun: "x509", ofImages: "kms", signers: both, fail: map[string]error{"image": failing}, run: x509},
	} {
		t.Run(name, func(t *testing.T) {
			var emitted facts
			ctx, signer, _ := newTestSignerWith(t, fixtures.Secret{}, &emitted)
			signer.signers = tc.signers
			backend := &stored{map[string]artifact{}, tc.fail}
			signer.replaceBackends(map[string]storage.Backend{"tekton": backend})
			ctx = chainsconfig.ToContext(ctx, configured(t, tc.ofRun, tc.ofImages))

			err := signer.Sign(ctx, build())
			if again, _ := controller.IsRequeueKey(err); again != tc.refused || errors.Is(err, failing) != (len(tc.fail) > 0) || err == nil != (!tc.refused && len(tc.fail) == 0) {
				t.Errorf("got error %v", err)
			}
			checkSignedBy(t, "attestation", backend.artifacts["taskrun"], tc.run, []signature.Verifier{x509, kmsSigner})
			checkSignedBy(t, "image", backend.artifacts["image"], tc.image, []signature.Verifier{x509, kmsSigner})
			tr, err := signer.current.Load().Pipelineclientset.TektonV1().TaskRuns("ns").Get(ctx, "run", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if mark := tr.Annotations[annotations.ChainsAnnotation]; mark != tc.mark {
				t.Errorf("the run is marked %q, want %q", mark, tc.mark)
			}
			if _, counted := tr.Annotations[annotations.RetryAnnotation]; counted != (len(tc.fail) > 0) {
				t.Errorf("an attempt was counted: %v", counted)
			}
			if told := len(emitted) == 1; told != (tc.unset || tc.refused) {
				t.Errorf("emitted %v", emitted)
			}
		})
	}
}

// configured returns a configuration with these signers, and with a token for the KMS.
func configured(t *testing.T, ofRun, ofImages string) *chainsconfig.Config {
	t.Helper()
	cfg, err := chainsconfig.NewConfigFromMap(map[string]string{
		"artifacts.taskrun.signer": ofRun, "artifacts.taskrun.format": "slsa/v1", "artifacts.taskrun.storage": "tekton",
		"artifacts.oci.signer": ofImages, "artifacts.oci.storage": "tekton",
		"signers.kms.kmsref": "hashivault://key", "signers.kms.auth.token": "s3cr3t",
	})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func checkSignedBy(t *testing.T, what string, a artifact, want signature.Verifier, all []signature.Verifier) {
	t.Helper()
	if (a.signature == "") != (want == nil) {
		t.Fatalf("%s: is signed: %v, want %v", what, a.signature != "", want != nil)
	}
	for _, verifier := range all {
		if by := want != nil && a.verifiesWith(verifier); by != (verifier == want) {
			t.Errorf("%s: a signer made the signature: %v, want %v", what, by, verifier == want)
		}
	}
}

// Chains gets no setting of the KMS, so that it cannot log the token.
func TestPasses_KeepSettingsOfKMSFromChains(t *testing.T) {
	for _, signers := range []signersByType{{"kms": newSigner(t), "x509": newSigner(t)}, {}} {
		for _, ofRun := range []string{"none", "x509", "kms"} {
			all, _, err := passes(t.Context(), configured(t, ofRun, "kms"), signers, build())
			if err != nil || len(all) == 0 {
				t.Fatalf("got %d passes and %v", len(all), err)
			}
			for _, p := range all {
				if text := fmt.Sprintf("%#v", *chainsconfig.FromContext(p.context(t.Context()))); strings.Contains(text, "s3cr3t") || strings.Contains(text, "hashivault") {
					t.Errorf("signer %s: Chains gets %s", ofRun, text)
				}
			}
		}
	}
}

// The author of a policy may name any KMS that this process knows.
func TestHandOver_RefusesWithoutSignerInContext(t *testing.T) {
	if signer, err := kms.Get(t.Context(), handoverRef+"x509", crypto.SHA256); err == nil {
		t.Errorf("got %v", signer)
	}
	signer := newSigner(t)
	ctx := withHandover(t.Context(), &chainsconfig.Config{}, signer)
	if signer, err := kms.Get(withoutHandover(ctx), handoverRef, crypto.SHA256); err == nil {
		t.Errorf("got %v", signer)
	}
	got, err := kms.Get(ctx, handoverRef, crypto.SHA256)
	if err != nil || got.(handedOver).SignerVerifier != signer {
		t.Errorf("got %v, %v", got, err)
	}
}

// verifiesWith reports whether a key made the signature: in an envelope with an
// attestation, or beside the payload of an image.
func (a artifact) verifiesWith(verifier signature.Verifier) bool {
	if strings.HasPrefix(a.signature, "{") {
		return dsse.WrapVerifier(verifier).VerifySignature(strings.NewReader(a.signature), nil) == nil
	}
	return verifier.VerifySignature(strings.NewReader(a.signature), bytes.NewReader(a.payload)) == nil
}
