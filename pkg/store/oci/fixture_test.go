// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/sigstore/cosign/v2/pkg/cosign"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/tektoncd/chains/pkg/chains/signing"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned/scheme"
	bundleresolver "github.com/tektoncd/pipeline/pkg/resolution/resolver/bundle"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry/registrytest"
	"github.com/trusted-resources/chains-extension/pkg/oci/tektonbundle"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
	"github.com/trusted-resources/chains-extension/test/fixtures"
)

// fixture is a store in an in-memory registry that can inject faults, and a key.
type fixture struct {
	t      *testing.T
	server *registrytest.Server
	store  *Store
	key    *keys.Key
	ring   *keys.Ring // trusts key
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return newFixtureOn(t, registrytest.New(t))
}

func newFixtureWithoutReferrers(t *testing.T) *fixture {
	t.Helper()
	return newFixtureOn(t, registrytest.NewWithoutReferrers(t))
}

func newFixtureOn(t *testing.T, server *registrytest.Server) *fixture {
	t.Helper()
	key, public := newKey(t)
	f := &fixture{t: t, server: server, key: key, ring: trusting(t, public)}
	f.restart()
	return f
}

// restart replaces the store by one with empty caches, as a restart of the
// process does.
func (f *fixture) restart() {
	f.store = &Store{Registry: registry.NewClient(registry.Options{}), Prefix: f.server.Host + "/tekton"}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func newKey(t *testing.T) (*keys.Key, crypto.PublicKey) {
	t.Helper()
	secret, public, err := fixtures.X509Secret()
	dir := t.TempDir()
	if err := errors.Join(err, secret.Write(dir)); err != nil {
		t.Fatal(err)
	}
	ctx := logging.WithLogger(t.Context(), zap.NewNop().Sugar())
	key, err := keys.Load(ctx, dir, keys.Settings{SignerTypes: []string{signing.TypeX509}}).Active(signing.TypeX509)
	if err != nil {
		t.Fatal(err)
	}
	return key, public
}

func trusting(t *testing.T, public ...crypto.PublicKey) *keys.Ring {
	t.Helper()
	ring, err := keys.NewVerifyingRing(public...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func newTask(name, script string) *v1.Task {
	return &v1.Task{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name, Labels: map[string]string{"a": "b"}},
		Spec:       v1.TaskSpec{Steps: []v1.Step{{Name: "run", Image: "busybox", Script: script}}},
	}
}

// newLongTask returns a Task that is too long to be inlined into the manifest.
func newLongTask(name string) *v1.Task { return newTask(name, strings.Repeat("make\n", 20_000)) }

func newPipeline() *v1.Pipeline {
	return &v1.Pipeline{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "build"},
		Spec:       v1.PipelineSpec{Tasks: []v1.PipelineTask{{Name: "a", TaskRef: &v1.TaskRef{Name: "build"}}}},
	}
}

func newStepAction() *v1beta1.StepAction {
	return &v1beta1.StepAction{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "build"}, Spec: v1beta1.StepActionSpec{Image: "busybox"}}
}

func (f *fixture) checksum(obj resource.Object) []byte {
	f.t.Helper()
	return must(resource.Checksum(f.t.Context(), obj, tekton.Newest))
}

func (f *fixture) put(obj resource.Object) PutResult {
	f.t.Helper()
	return f.putBy(obj, f.key)
}

func (f *fixture) putBy(obj resource.Object, key *keys.Key) PutResult {
	f.t.Helper()
	result, err := f.store.Put(f.t.Context(), obj, nil, key, tekton.Newest)
	if err != nil {
		f.t.Fatal(err)
	}
	return result
}

// find finds the state of a resource, and checks with cosign and Tekton that the
// bundle is signed and holds the resource.
func (f *fixture) find(obj resource.Object) *Image {
	f.t.Helper()
	found, err := f.store.Find(f.t.Context(), IDOf(obj), f.checksum(obj), f.ring)
	if err != nil {
		f.t.Fatal(err)
	}
	if len(found.Resources) != 1 || !bytes.Equal(found.Resources[0].Checksum(), f.checksum(obj)) {
		f.t.Fatalf("got %+v", found)
	}
	f.checkUpstream(found.Reference, obj)
	return found
}

// checkUpstream checks that cosign verifies the image and that Tekton's resolver
// returns the resource.
func (f *fixture) checkUpstream(reference string, obj resource.Object) {
	f.t.Helper()
	if !f.signed(reference, f.ring) {
		f.t.Errorf("cosign does not verify %s", reference)
	}
	options := bundleresolver.RequestOptions{Bundle: reference, Kind: resource.KindOf(obj).ConfigName(), EntryName: obj.GetName()}
	entry, err := bundleresolver.GetEntry(f.t.Context(), authn.DefaultKeychain, options)
	if err != nil {
		f.t.Fatal(err)
	}
	decoded, _, err := scheme.Codecs.UniversalDeserializer().Decode(entry.Data(), nil, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	if got := f.checksum(decoded.(resource.Object)); !bytes.Equal(got, f.checksum(obj)) {
		f.t.Errorf("Tekton resolves checksum %x, want %x", got, f.checksum(obj))
	}
}

// signed reports whether cosign verifies the image with one of the keys, as the
// command cosign verify does.
func (f *fixture) signed(reference string, ring *keys.Ring) bool {
	f.t.Helper()
	ref, err := name.ParseReference(reference)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, key := range ring.Keys() {
		options := &cosign.CheckOpts{
			SigVerifier: must(signature.LoadVerifier(key.PublicKey(), crypto.SHA256)), ClaimVerifier: cosign.IntotoSubjectClaimVerifier,
			IgnoreTlog: true, NewBundleFormat: true, TrustedMaterial: root.TrustedMaterialCollection{},
		}
		if _, _, err := cosign.VerifyImageAttestations(f.t.Context(), ref, options); err == nil {
			return true
		}
	}
	return false
}

// tags returns the digests of the tags in the repository.
func (f *fixture) tags() map[string]string {
	f.t.Helper()
	var list struct {
		Tags []string `json:"tags"`
	}
	if body := f.server.Direct(http.MethodGet, "/v2/tekton/prod/tags/list", nil, nil).Body; json.Unmarshal(body.Bytes(), &list) != nil {
		return nil
	}
	tags := map[string]string{}
	for _, tag := range list.Tags {
		if strings.HasPrefix(tag, "sha256-") {
			continue // an index of referrers
		}
		tags[tag] = f.server.Direct(http.MethodGet, "/v2/tekton/prod/manifests/"+tag, nil, nil).Header().Get("Docker-Content-Digest")
	}
	return tags
}

// writeTag writes a manifest under a tag, past the server's rule.
func (f *fixture) writeTag(tag string, manifest registry.Blob) {
	f.t.Helper()
	header := http.Header{"Content-Type": {manifest.Descriptor.MediaType}}
	if got := f.server.Direct(http.MethodPut, "/v2/tekton/prod/manifests/"+tag, header, manifest.Content); got.Code != http.StatusCreated {
		f.t.Fatalf("status %d", got.Code)
	}
}

// build returns a bundle of the resource, signed with the key.
func (f *fixture) build(obj resource.Object, key *keys.Key) *tektonbundle.Bundle {
	f.t.Helper()
	return must(tektonbundle.New(f.t.Context(), obj, must(key.Sign(f.t.Context(), f.checksum(obj))), tekton.Newest))
}

// addUnsigned writes a bundle under a tag, without a signature of the image, and
// returns the reference.
func (f *fixture) addUnsigned(bundle *tektonbundle.Bundle, tag string) string {
	f.t.Helper()
	f.server.Direct(http.MethodPost, "/v2/tekton/prod/blobs/uploads/?digest="+bundle.Layer.Descriptor.Digest.String(), nil, bundle.Layer.Content)
	f.writeTag(tag, bundle.Manifest)
	return f.store.Prefix + "/prod@" + bundle.Manifest.Descriptor.Digest.String()
}

// wantRequests checks that do succeeds and takes this number of requests. It
// returns the requests that are not GET requests.
func (f *fixture) wantRequests(want int, operation string, do func() error) []string {
	f.t.Helper()
	var err error
	requests := f.server.RequestsDuring(func() { err = do() })
	if len(requests) != want || err != nil {
		f.t.Errorf("%s took %d requests, want %d (%v): %s", operation, len(requests), want, err, strings.Join(requests, "\n"))
	}
	return slices.DeleteFunc(requests, func(request string) bool { return strings.HasPrefix(request, http.MethodGet) })
}
