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
	"github.com/trusted-resources/chains-extension/test/fixtures"
)

// world is a store in a registry that fails as told, and a key to sign with.
type world struct {
	*testing.T
	*registrytest.Server
	*Store
	key  *keys.Key
	ring *keys.Ring // trusts the key
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return in(t, registrytest.New(t))
}

func newWorldWithoutReferrers(t *testing.T) *world {
	t.Helper()
	return in(t, registrytest.NewWithoutReferrers(t))
}

func in(t *testing.T, server *registrytest.Server) *world {
	t.Helper()
	key, public := newKey(t)
	w := &world{T: t, Server: server, key: key, ring: trusting(t, public)}
	w.restart()
	return w
}

// restart forgets what the process knows of the registry.
func (w *world) restart() {
	w.Store = &Store{Registry: registry.NewClient(registry.Options{}), Prefix: w.Host + "/tekton"}
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

// newLongTask is one that its manifest does not carry.
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

func (w *world) sum(obj resource.Object) []byte {
	w.Helper()
	return must(resource.Checksum(w.Context(), obj))
}

func (w *world) put(obj resource.Object) Stored {
	w.Helper()
	return w.putBy(obj, w.key)
}

func (w *world) putBy(obj resource.Object, key *keys.Key) Stored {
	w.Helper()
	stored, err := w.Put(w.Context(), obj, nil, key)
	if err != nil {
		w.Fatal(err)
	}
	return stored
}

// find has that state of a resource retrieved, and asks others about it.
func (w *world) find(obj resource.Object) *Image {
	w.Helper()
	found, err := w.Find(w.Context(), IDOf(obj), w.sum(obj), w.ring)
	if err != nil {
		w.Fatal(err)
	}
	if len(found.Resources) != 1 || !bytes.Equal(found.Resources[0].Checksum, w.sum(obj)) {
		w.Fatalf("got %+v", found)
	}
	w.judge(found.Reference, obj)
	return found
}

// judge asks cosign whether the image is signed, and Tekton what is in it.
func (w *world) judge(reference string, obj resource.Object) {
	w.Helper()
	if !w.signed(reference, w.ring) {
		w.Errorf("cosign does not verify %s", reference)
	}
	options := bundleresolver.RequestOptions{Bundle: reference, Kind: resource.KindOf(obj).ConfigName(), EntryName: obj.GetName()}
	entry, err := bundleresolver.GetEntry(w.Context(), authn.DefaultKeychain, options)
	if err != nil {
		w.Fatal(err)
	}
	decoded, _, err := scheme.Codecs.UniversalDeserializer().Decode(entry.Data(), nil, nil)
	if err != nil {
		w.Fatal(err)
	}
	if got := w.sum(decoded.(resource.Object)); !bytes.Equal(got, w.sum(obj)) {
		w.Errorf("Tekton resolves checksum %x, want %x", got, w.sum(obj))
	}
}

// signed asks cosign, as cosign verify does.
func (w *world) signed(reference string, ring *keys.Ring) bool {
	w.Helper()
	ref, err := name.ParseReference(reference)
	if err != nil {
		w.Fatal(err)
	}
	for _, key := range ring.Keys() {
		options := &cosign.CheckOpts{
			SigVerifier: must(signature.LoadVerifier(key.PublicKey(), crypto.SHA256)), ClaimVerifier: cosign.IntotoSubjectClaimVerifier,
			IgnoreTlog: true, NewBundleFormat: true, TrustedMaterial: root.TrustedMaterialCollection{},
		}
		if _, _, err := cosign.VerifyImageAttestations(w.Context(), ref, options); err == nil {
			return true
		}
	}
	return false
}

// tags are those of the repository, by what they resolve to.
func (w *world) tags() map[string]string {
	w.Helper()
	var list struct {
		Tags []string `json:"tags"`
	}
	if body := w.Do(http.MethodGet, "/v2/tekton/prod/tags/list", nil, nil).Body; json.Unmarshal(body.Bytes(), &list) != nil {
		return nil
	}
	tags := map[string]string{}
	for _, tag := range list.Tags {
		if strings.HasPrefix(tag, "sha256-") {
			continue // referrers, where the registry does not list them
		}
		tags[tag] = w.Do(http.MethodGet, "/v2/tekton/prod/manifests/"+tag, nil, nil).Header().Get("Docker-Content-Digest")
	}
	return tags
}

// tag gives a manifest to a tag, whatever the fault.
func (w *world) tag(tag string, manifest registry.Blob) {
	w.Helper()
	header := http.Header{"Content-Type": {manifest.Descriptor.MediaType}}
	if got := w.Do(http.MethodPut, "/v2/tekton/prod/manifests/"+tag, header, manifest.Content); got.Code != http.StatusCreated {
		w.Fatalf("status %d", got.Code)
	}
}

// built is a bundle of the resource, signed by the key and nowhere yet.
func (w *world) built(obj resource.Object, key *keys.Key) *tektonbundle.Bundle {
	w.Helper()
	return must(tektonbundle.New(w.Context(), obj, must(key.Sign(w.Context(), w.sum(obj)))))
}

// uploaded has it in the registry under a tag, without a signature of the image.
func (w *world) uploaded(built *tektonbundle.Bundle, tag string) string {
	w.Helper()
	w.Do(http.MethodPost, "/v2/tekton/prod/blobs/uploads/?digest="+built.Layer.Descriptor.Digest.String(), nil, built.Layer.Content)
	w.tag(tag, built.Manifest)
	return w.Prefix + "/prod@" + built.Manifest.Descriptor.Digest.String()
}

func (w *world) count(want int, what string, do func() error) []string {
	w.Helper()
	var err error
	requests := w.During(func() { err = do() })
	if len(requests) != want || err != nil {
		w.Errorf("%s took %d requests, want %d (%v): %s", what, len(requests), want, err, strings.Join(requests, "\n"))
	}
	return slices.DeleteFunc(requests, func(request string) bool { return strings.HasPrefix(request, http.MethodGet) })
}
