package harness

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	pipelinev1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/resolution/resolver/bundle"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Tekton's resolver finds each resource of a bundle, also after the registry
// was down.
func TestPushBundle_ResolvesAfterRegistryRestart(t *testing.T) {
	registry, err := StartRegistry(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Stop() })
	meta := metav1.ObjectMeta{Name: "build", Namespace: "home", UID: "1", ResourceVersion: "2"}
	ref, err := registry.PushBundle(t.Context(),
		&pipelinev1.Task{ObjectMeta: meta}, &pipelinev1.Pipeline{ObjectMeta: meta}, &v1beta1.StepAction{ObjectMeta: meta})
	if err != nil {
		t.Fatal(err)
	}
	if err := registry.Stop(); err != nil {
		t.Fatal(err)
	}
	if answers(t, registry.Host()) {
		t.Error("the registry answers after Stop")
	}
	if err := registry.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, kind := range resource.Kinds {
		got := entry(t, ref, strings.ToLower(string(kind)))
		if !strings.Contains(got, "kind: "+string(kind)+"\n") || strings.Contains(got, "uid") || strings.Contains(got, "resourceVersion") {
			t.Errorf("the bundle has for %s:\n%s", kind, got)
		}
	}
}

// Registries differ in the referrers API, and a client finds the referrers in
// either.
func TestReferrers_AreFoundWithAndWithoutAPI(t *testing.T) {
	starts := map[bool]func(context.Context) (*Registry, error){
		true:  func(ctx context.Context) (*Registry, error) { return StartRegistry(ctx) },
		false: StartRegistryWithoutReferrers,
	}
	for has, start := range starts {
		registry, err := start(t.Context())
		check(t, err)
		t.Cleanup(func() { _ = registry.Stop() })
		image, err := registry.PushImage(t.Context(), "app")
		check(t, err)
		if got := hasReferrers(t, image); got != has {
			t.Errorf("it has the referrers API: %v, want %v", got, has)
		}
		attached := attach(t, image)
		if got := referrers(t, image); len(got) != 1 || got[0].Digest != attached {
			t.Errorf("its referrers are %v, want %s", got, attached)
		}
	}
}

// entry is the resource named build of a bundle, as Tekton's resolver finds it.
func entry(t *testing.T, ref, kind string) string {
	t.Helper()
	entry, err := bundle.GetEntry(t.Context(), authn.DefaultKeychain,
		bundle.RequestOptions{Bundle: ref, Kind: kind, EntryName: "build"})
	check(t, err)
	return string(entry.Data())
}

// attach pushes an image that refers to another.
func attach(t *testing.T, to name.Digest, options ...remote.Option) v1.Hash {
	t.Helper()
	options = append(options, remote.WithContext(t.Context()))
	subject, err := remote.Head(to, options...)
	check(t, err)
	image, ok := mutate.Subject(mutate.MediaType(empty.Image, types.OCIManifestSchema1), *subject).(v1.Image)
	if !ok {
		t.Fatal("an image with a subject is something else")
	}
	digest, err := image.Digest()
	check(t, err)
	check(t, remote.Write(to.Context().Digest(digest.String()), image, options...))
	return digest
}

func referrers(t *testing.T, image name.Digest, options ...remote.Option) []v1.Descriptor {
	t.Helper()
	index, err := remote.Referrers(image, append(options, remote.WithContext(t.Context()))...)
	check(t, err)
	manifest, err := index.IndexManifest()
	check(t, err)
	return manifest.Manifests
}

// hasReferrers asks a registry itself, because clients make up for it.
func hasReferrers(t *testing.T, image name.Digest) bool {
	t.Helper()
	answer, err := do(t.Context(), http.MethodGet, "http://"+image.RegistryStr()+"/v2/"+image.RepositoryStr()+"/referrers/"+image.DigestStr(), nil)
	check(t, err)
	return answer.status == http.StatusOK
}

func answers(t *testing.T, host string) bool {
	t.Helper()
	_, err := do(t.Context(), http.MethodGet, "http://"+host+"/v2/", nil)
	return err == nil
}
