// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ociremote "github.com/sigstore/cosign/v2/pkg/oci/remote"

	"github.com/trusted-resources/chains-extension/pkg/oci/imagesignature"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// Stock cosign and our reader both reject a signature that was copied from another
// image and a signature with a changed byte. The test attaches these signatures with
// cosign's own library.
func TestImageSignature_RejectsForgery(t *testing.T) {
	e := newEnv(t)
	key, public := e.newKey()
	e.public = public
	registry := e.startRegistry()
	one, err := registry.PushBundle(t.Context(), newTask("prod", "build"))
	e.check(err)
	another, err := registry.PushBundle(t.Context(), newTask("prod", "deploy"))
	e.check(err)
	_, err = oci.Sign(t.Context(), newReader(registry.Host()).Registry, one, key, imagesignature.Options{})
	e.check(err)
	signature := e.signatureOf(one)

	e.attachSignature(another, signature)
	e.expectImageRejected(another)
	for name, field := range map[string][]string{
		"payload":   {"dsseEnvelope", "payload"},
		"signature": {"dsseEnvelope", "signatures", "sig"},
	} {
		t.Run("changed byte in "+name, func(t *testing.T) {
			e := e.sub(t)
			elsewhere := e.startRegistry()
			reference, err := elsewhere.PushBundle(t.Context(), newTask("prod", "build")) // the same digest
			e.check(err)
			e.attachSignature(reference, flipBit(t, signature, field...))
			e.expectImageRejected(reference)
			e.attachSignature(reference, signature) // proves that the image was rejected because of the changed byte
			e.expectCosignAccepts(reference)
		})
	}
}

// signatureOf returns the sigstore bundle that is attached to an image.
func (e *env) signatureOf(reference string) []byte {
	e.t.Helper()
	digest := e.parseDigest(reference)
	index, err := remote.Referrers(digest, remote.WithContext(e.t.Context()))
	e.check(err)
	manifest, err := index.IndexManifest()
	e.check(err)
	if len(manifest.Manifests) != 1 {
		e.t.Fatalf("%s has %d referrers, want one", reference, len(manifest.Manifests))
	}
	image, err := remote.Image(digest.Digest(manifest.Manifests[0].Digest.String()), remote.WithContext(e.t.Context()))
	e.check(err)
	layers, err := image.Layers()
	e.check(err)
	content, err := layers[0].Compressed()
	e.check(err)
	defer func() { e.check(content.Close()) }()
	signature, err := io.ReadAll(content)
	e.check(err)
	return signature
}

func (e *env) attachSignature(reference string, signature []byte) {
	e.t.Helper()
	e.check(ociremote.WriteAttestationNewBundleFormat(e.parseDigest(reference), signature, imagesignature.PredicateType,
		ociremote.WithRemoteOptions(remote.WithContext(e.t.Context()))))
}

// expectImageRejected requires that neither cosign nor our reader accepts an image as
// signed with our key.
func (e *env) expectImageRejected(reference string) {
	e.t.Helper()
	digest := e.parseDigest(reference)
	for _, cosign := range harness.Cosigns {
		if _, err := cosign.VerifyImages(e.t.Context(), e.public, []name.Digest{digest}); err == nil {
			e.t.Errorf("cosign %s accepts %s", cosign.Version, reference)
		}
	}
	found, err := oci.Inspect(e.t.Context(), newReader(digest.RegistryStr()).Registry, reference, e.keyRing(e.public))
	e.check(err)
	if len(found.Signers) != 0 {
		e.t.Errorf("oci.Inspect accepts %s as signed by %v, want no signer", reference, found.Signers)
	}
}

// flipBit returns a sigstore bundle with one changed bit in the middle of a base64
// field. Each list on the path to the field has one element.
func flipBit(t *testing.T, bundle []byte, path ...string) []byte {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal(bundle, &root); err != nil {
		t.Fatal(err)
	}
	at := root
	for _, field := range path[:len(path)-1] {
		next := at[field]
		if list, ok := next.([]any); ok {
			next = list[0]
		}
		at, _ = next.(map[string]any)
	}
	last := path[len(path)-1]
	encoded, _ := at[last].(string)
	content, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(content) == 0 {
		t.Fatalf("field %v has no base64 content: %v", path, err)
	}
	content[len(content)/2] ^= 1
	at[last] = base64.StdEncoding.EncodeToString(content)
	forged, err := json.Marshal(root)
	if err != nil || bytes.Equal(forged, bundle) {
		t.Fatalf("the bundle did not change: %v", err)
	}
	return forged
}

// With a transparency log, stock cosign requires the proof that the log contains the
// signature. The controller attaches no signature that the log has not accepted.
func TestTransparencyLog_IsRequiredWhenEnabled(t *testing.T) {
	e := newEnv(t)
	rekor, err := harness.StartRekor(t.Context())
	e.check(err)
	e.cleanup(rekor.Stop)
	root, err := rekor.TrustedRoot()
	e.check(err)
	registry := e.startRegistry()
	store := newReader(registry.Host())
	unlogged, err := store.Put(t.Context(), newTask("prod", "unlogged"), nil, e.loadKey(e.secretsDir), tekton.Newest)
	e.check(err)
	settings := storingSettings(registry.Host(), "oci")
	settings["transparency.enabled"], settings["transparency.url"] = "true", rekor.URL()
	e.configure(settings)
	e.controller = e.addReplica("controller")
	logged := e.waitStored(store, e.createTask(newTask(e.namespace(), "logged")))
	if rekor.Entries() != 1 {
		t.Errorf("the transparency log has %d entries, want 1", rekor.Entries())
	}
	for _, cosign := range harness.Cosigns {
		if _, err := cosign.VerifyLoggedImages(t.Context(), e.public, root, e.parseDigest(logged.Reference)); err != nil {
			t.Error(err)
		}
		if _, err := cosign.VerifyLoggedImages(t.Context(), e.public, root, e.parseDigest(unlogged.Reference)); err == nil {
			t.Errorf("cosign %s accepts a signature that the transparency log does not have", cosign.Version)
		}
	}

	e.check(rekor.Stop())
	waits := e.createTask(newTask(e.namespace(), "waits"))
	e.waitEvent(waits, "NotStored", "transparency log "+rekor.URL())
	e.check(rekor.Start(t.Context()))
	e.waitEvent(waits, "ResourceStored")
}

func (e *env) parseDigest(reference string) name.Digest {
	e.t.Helper()
	digest, err := name.NewDigest(reference)
	e.check(err)
	return digest
}
