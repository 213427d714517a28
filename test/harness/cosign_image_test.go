// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

const password = "correct horse"

type startedRegistry interface {
	Host() string
	Stop() error
}

// Both versions of cosign verify what either version has signed, with and without the
// referrers API.
func TestCosign_VerifiesImagesSignedByBothVersions(t *testing.T) {
	check(t, BuildCosigns(t.Context(), os.Stderr))
	check(t, BuildDistribution(t.Context(), os.Stderr))
	for kind, start := range map[string]func(context.Context) (startedRegistry, error){
		"with referrers":    func(ctx context.Context) (startedRegistry, error) { return StartRegistry(ctx) },
		"without referrers": func(ctx context.Context) (startedRegistry, error) { return StartRegistryWithoutReferrers(ctx) },
		"distribution": func(ctx context.Context) (startedRegistry, error) {
			return StartDistribution(ctx, io.Discard, DistributionOptions{})
		},
	} {
		registry, err := start(t.Context())
		check(t, err)
		t.Cleanup(func() { check(t, registry.Stop()) })
		for _, signer := range Cosigns {
			t.Run(kind+"/"+signer.Major, func(t *testing.T) { signsImage(t, signer, registry.Host()) })
		}
	}
}

// signsImage checks that a signature verifies only with its own key, and that an image
// without a signature does not verify.
func signsImage(t *testing.T, signer Cosign, host string) {
	image, err := PushImage(t.Context(), host+"/"+signer.Major)
	check(t, err)
	keyFile, public, err := signer.GenerateKeyPair(t.Context(), t.TempDir(), password)
	check(t, err)
	otherSigner, err := NewSigner()
	check(t, err)
	other, err := otherSigner.PublicKey()
	check(t, err)

	refuses(t, signer.SignImage(t.Context(), keyFile, "incorrect horse", image), "decrypt")
	for _, verifier := range Cosigns {
		if _, err := verifier.VerifyImages(t.Context(), public, []name.Digest{image}); err == nil {
			t.Errorf("cosign %s accepts an image without a signature", verifier.Version)
		}
	}
	check(t, signer.SignImage(t.Context(), keyFile, password, image))
	attached := referrers(t, image)
	if len(attached) != 1 {
		t.Fatalf("got referrers %+v, want one", attached)
	}
	isBundle(t, image.Context().Digest(attached[0].Digest.String()))
	for _, verifier := range Cosigns {
		out, err := verifier.VerifyImages(t.Context(), public, []name.Digest{image})
		check(t, err)
		if !strings.Contains(out, image.DigestStr()) || !strings.Contains(out, "https://sigstore.dev/cosign/sign/v1") {
			t.Errorf("the output of cosign %s lacks the digest or the predicate type: %s", verifier.Version, out)
		}
		if strings.Contains(out, "TUF") || strings.Contains(out, "sigstore.dev:") {
			t.Errorf("cosign %s asks the public Sigstore: %s", verifier.Version, out)
		}
		_, err = verifier.VerifyImages(t.Context(), other, []name.Digest{image})
		refuses(t, err, "accepted signatures do not match threshold")
	}
}

// isBundle reads the referrer itself. The list of referrers does not always name the
// artifact type: the registry in this process omits it, and so does cosign v2 in the
// index under a tag.
func isBundle(t *testing.T, referrer name.Digest) {
	t.Helper()
	got, err := remote.Get(referrer, remote.WithContext(t.Context()))
	check(t, err)
	image, err := got.Image()
	check(t, err)
	manifest, err := image.Manifest()
	check(t, err)
	if got.ArtifactType != BundleMediaType || len(manifest.Layers) != 1 || manifest.Layers[0].MediaType != BundleMediaType {
		t.Errorf("the referrer is not a sigstore bundle: %s", got.Manifest)
	}
}

// With flags, cosign reaches a registry that needs TLS and a password.
func TestCosign_AcceptsRegistryFlags(t *testing.T) {
	check(t, BuildCosigns(t.Context(), os.Stderr))
	d := startDistribution(t, DistributionOptions{TLS: true, Users: map[string]string{"alice": "secret"}})
	image, err := PushImage(t.Context(), d.Host()+"/app", once, remote.WithTransport(d.Transport()),
		remote.WithAuth(&authn.Basic{Username: "alice", Password: "secret"}))
	check(t, err)
	flags := func(password string) []string {
		return []string{"--registry-cacert", d.CA(), "--registry-username", "alice", "--registry-password", password}
	}
	for _, cosign := range Cosigns {
		keyFile, public, err := cosign.GenerateKeyPair(t.Context(), t.TempDir(), password)
		check(t, err)
		check(t, cosign.SignImage(t.Context(), keyFile, password, image, flags("secret")...))
		_, err = cosign.VerifyImages(t.Context(), public, []name.Digest{image}, flags("secret")...)
		check(t, err)
		_, err = cosign.VerifyImages(t.Context(), public, []name.Digest{image}, flags("other")...)
		refuses(t, err, "UNAUTHORIZED")
	}
}

// cosign fails at once if it needs another host: no request of a test leaves this
// machine.
func TestCosign_FailsWithoutInternet(t *testing.T) {
	check(t, BuildCosigns(t.Context(), os.Stderr))
	for _, cosign := range Cosigns {
		image, err := name.NewDigest("registry.example.com/app@sha256:" + strings.Repeat("0", 64))
		check(t, err)
		signer, err := NewSigner()
		check(t, err)
		public, err := signer.PublicKey()
		check(t, err)
		_, err = cosign.VerifyImages(t.Context(), public, []name.Digest{image})
		refuses(t, err, "proxyconnect")
	}
}

// refuses requires an error whose message contains why.
func refuses(t *testing.T, err error, why string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("got error %v, want one that contains %q", err, why)
	}
}
