package harness

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/resolution/resolver/bundle"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Tekton's resolver finds each resource of a bundle, also after the registry
// was down.
func TestBundle(t *testing.T) {
	registry, err := StartRegistry(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Stop() })
	meta := metav1.ObjectMeta{Name: "build", Namespace: "home", UID: "1", ResourceVersion: "2"}
	ref, err := registry.PushBundle(t.Context(),
		&v1.Task{ObjectMeta: meta}, &v1.Pipeline{ObjectMeta: meta}, &v1beta1.StepAction{ObjectMeta: meta})
	if err != nil {
		t.Fatal(err)
	}
	if err := registry.Stop(); err != nil {
		t.Fatal(err)
	}
	if answers(t, registry) {
		t.Error("the registry answers after Stop")
	}
	if err := registry.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, kind := range resource.Kinds {
		entry, err := bundle.GetEntry(t.Context(), authn.DefaultKeychain,
			bundle.RequestOptions{Bundle: ref, Kind: strings.ToLower(string(kind)), EntryName: "build"})
		if err != nil {
			t.Fatal(err)
		}
		got := string(entry.Data())
		if !strings.Contains(got, "kind: "+string(kind)+"\n") || strings.Contains(got, "uid") || strings.Contains(got, "resourceVersion") {
			t.Errorf("the bundle has for %s:\n%s", kind, got)
		}
	}
}

func answers(t *testing.T, registry *Registry) bool {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+registry.Host()+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	return response.Body.Close() == nil
}
