// SPDX-License-Identifier: Apache-2.0

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

// Tekton's resolver finds each resource of a bundle, also after the registry was stopped
// and started.
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
		t.Error("the registry responds after Stop")
	}
	if err := registry.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, kind := range resource.Kinds {
		got := entry(t, ref, strings.ToLower(string(kind)))
		if !strings.Contains(got, "kind: "+string(kind)+"\n") || strings.Contains(got, "uid") || strings.Contains(got, "resourceVersion") {
			t.Errorf("got %s\n%s\nwant no uid and no resourceVersion", kind, got)
		}
	}
}

// Clients find the referrers of an image with and without the referrers API.
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
			t.Errorf("referrers API: got %v, want %v", got, has)
		}
		attached := attach(t, image)
		if got := referrers(t, image); len(got) != 1 || got[0].Digest != attached {
			t.Errorf("got referrers %v, want %s", got, attached)
		}
	}
}

// entry returns the resource named build in a bundle, as Tekton's resolver reads it.
func entry(t *testing.T, ref, kind string) string {
	t.Helper()
	entry, err := bundle.GetEntry(t.Context(), authn.DefaultKeychain,
		bundle.RequestOptions{Bundle: ref, Kind: kind, EntryName: "build"})
	check(t, err)
	return string(entry.Data())
}

// attach pushes an image whose subject is another image, and returns its digest.
func attach(t *testing.T, to name.Digest, options ...remote.Option) v1.Hash {
	t.Helper()
	options = append(options, remote.WithContext(t.Context()))
	subject, err := remote.Head(to, options...)
	check(t, err)
	image, ok := mutate.Subject(mutate.MediaType(empty.Image, types.OCIManifestSchema1), *subject).(v1.Image)
	if !ok {
		t.Fatal("mutate.Subject did not return an image")
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

// hasReferrers reports whether a registry has the referrers API. It makes the request
// itself, because clients fall back to a tag.
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
