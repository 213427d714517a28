// SPDX-License-Identifier: Apache-2.0

package tektonbundle

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	ggcrregistry "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned/scheme"
	"github.com/tektoncd/pipeline/pkg/resolution/resolver/bundle"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// If this digest changes, a new release uploads every bundle again.
func TestNew_HasSameDigestOnAllMachines(t *testing.T) {
	const want = "sha256:04a4d591fb2d643a56e9e54830404795ab563e940da498a5d60d7e0a2b43cafa"
	if got := build(t, task("build"), "sig").Manifest.Descriptor.Digest.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNew_DigestDependsOnlyOnChecksumAndSignature(t *testing.T) {
	want := build(t, task("build"), "sig").Manifest.Descriptor.Digest
	for name, change := range map[string]func(*v1.Task){
		"no change":          func(*v1.Task) {},
		"defaults":           func(task *v1.Task) { task.SetDefaults(t.Context()) },
		"type meta":          func(task *v1.Task) { task.TypeMeta = metav1.TypeMeta{Kind: "Task", APIVersion: "tekton.dev/v1"} },
		"uid":                func(task *v1.Task) { task.UID = "uid" },
		"resource version":   func(task *v1.Task) { task.ResourceVersion, task.Generation = "7", 7 },
		"creation timestamp": func(task *v1.Task) { task.CreationTimestamp = metav1.Now() },
		"deletion timestamp": func(task *v1.Task) { now := metav1.Now(); task.DeletionTimestamp = &now },
		"grace period":       func(task *v1.Task) { task.DeletionGracePeriodSeconds = new(int64) },
		"finalizers":         func(task *v1.Task) { task.Finalizers = []string{"a"} },
		"self link":          func(task *v1.Task) { task.SetSelfLink("/x") },
		"managed fields":     func(task *v1.Task) { task.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "a"}} },
		"owner references":   func(task *v1.Task) { task.OwnerReferences = []metav1.OwnerReference{{Name: "a"}} },
		"previous signature": func(task *v1.Task) {
			task.Annotations = map[string]string{trustedresources.SignatureAnnotation: "b2xk"}
		},
		"kubectl annotations": func(task *v1.Task) {
			task.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{}", "kubectl-client-side-apply": "x"}
		},
		"empty annotations":  func(task *v1.Task) { task.Annotations = map[string]string{} },
		"empty volumes":      func(task *v1.Task) { task.Spec.Volumes = v1.Volumes{} },
		"empty step results": func(task *v1.Task) { task.Spec.Steps[0].Results = []v1.StepResult{} },
	} {
		changed := task("build")
		change(changed)
		if built := build(t, changed, "sig"); built.Manifest.Descriptor.Digest != want {
			t.Errorf("%s: got %s, want %s", name, built.Manifest.Descriptor.Digest, want)
		}
	}
	for name, built := range map[string]*Bundle{
		"other name":      build(t, task("other"), "sig"),
		"other signature": build(t, task("build"), "other"),
		"other label":     build(t, func() *v1.Task { o := task("build"); o.Labels["a"] = "c"; return o }(), "sig"),
		"other script":    build(t, func() *v1.Task { o := task("build"); o.Spec.Steps[0].Script = "x"; return o }(), "sig"),
	} {
		if built.Manifest.Descriptor.Digest == want {
			t.Errorf("%s: the digest is the same", name)
		}
	}
}

// push writes a bundle to a new registry with plain HTTP requests, and returns the
// reference.
func push(t *testing.T, layer, manifest registry.Blob) string {
	t.Helper()
	server := httptest.NewServer(ggcrregistry.New(ggcrregistry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	send := func(method, path, contentType string, content []byte) {
		request := must(http.NewRequestWithContext(t.Context(), method, server.URL+"/v2/prod/"+path, bytes.NewReader(content)))
		request.Header.Set("Content-Type", contentType)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode != http.StatusCreated {
			t.Fatalf("%s %s: %s", method, path, response.Status)
		}
	}
	send(http.MethodPost, "blobs/uploads/?digest="+layer.Descriptor.Digest.String(), "application/octet-stream", layer.Content)
	send(http.MethodPost, "blobs/uploads/?digest="+registry.EmptyConfig.Descriptor.Digest.String(), "application/octet-stream", registry.EmptyConfig.Content)
	send(http.MethodPut, "manifests/tag", manifest.Descriptor.MediaType, manifest.Content)
	return strings.TrimPrefix(server.URL, "http://") + "/prod@" + manifest.Descriptor.Digest.String()
}

// resolve resolves a resource with Tekton's bundle resolver.
func resolve(ctx context.Context, t *testing.T, reference, kind, name string) resource.Object {
	t.Helper()
	entry, err := bundle.GetEntry(ctx, authn.DefaultKeychain, bundle.RequestOptions{Bundle: reference, Kind: kind, EntryName: name})
	if err != nil {
		t.Fatal(err)
	}
	decoded, _, err := scheme.Codecs.UniversalDeserializer().Decode(entry.Data(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return decoded.(resource.Object)
}

func TestNew_IsResolvedByTekton(t *testing.T) {
	long := task("long")
	long.Spec.Steps[0].Script = strings.Repeat("long ", 100_000)
	nested := task("n" + strings.Repeat(".n", 126))
	for _, object := range append(objects(), long, nested) {
		kind := resource.KindOf(object).ConfigName()
		t.Run(kind, func(t *testing.T) {
			built := build(t, object, "sig")
			reference := push(t, built.Layer, built.Manifest)
			got := resolve(t.Context(), t, reference, kind, object.GetName())
			checksum := must(resource.Checksum(t.Context(), object, tekton.Newest))
			if resolved := must(resource.Checksum(t.Context(), got, tekton.Newest)); !bytes.Equal(resolved, checksum) || !bytes.Equal(built.Checksum, checksum) {
				t.Errorf("got checksums %x and %x, want %x", resolved, built.Checksum, checksum)
			}
			if signature, err := resource.Signature(got); err != nil || string(signature) != "sig" {
				t.Errorf("got signature %q and %v", signature, err)
			}
		})
	}
}

func TestEntries_ReturnsAnnotationsOfNew(t *testing.T) {
	for _, object := range objects() {
		built := build(t, object, "sig")
		entries, err := Entries(built.Manifest.Content)
		if err != nil || len(entries) != 1 {
			t.Fatalf("got %+v and %v", entries, err)
		}
		entry := entries[0]
		if entry.Kind != resource.KindOf(object).ConfigName() || entry.Name != "build" || string(entry.Signature) != "sig" ||
			!bytes.Equal(entry.Checksum, must(resource.Checksum(t.Context(), object, tekton.Newest))) || entry.Layer.Digest != built.Layer.Descriptor.Digest {
			t.Errorf("got %+v", entry)
		}
		if entry.Layer.Annotations[v1alpha1.BundleNamespaceAnnotation] != "prod" || entry.Layer.Annotations[v1alpha1.BundleChecksumAnnotation] != hex.EncodeToString(entry.Checksum) {
			t.Errorf("got annotations %v", entry.Layer.Annotations)
		}
		got, err := entry.Resource(built.Layer.Content)
		if err != nil || !bytes.Equal(must(resource.Checksum(t.Context(), got, tekton.Newest)), entry.Checksum) {
			t.Errorf("got %+v and %v", got, err)
		}
	}
}

// The API server accepts 1.5 MiB of JSON.
func TestNew_AcceptsLongestResources(t *testing.T) {
	const maxResource = 3 << 19
	long, many := task("build"), task("build")
	long.Spec.Steps[0].Script = strings.Repeat("x", maxResource-2000)
	for range maxResource / len(`"x",`) {
		many.Spec.Steps[0].Args = append(many.Spec.Steps[0].Args, "x")
	}
	for name, object := range map[string]*v1.Task{"one long script": long, "many short arguments": many} {
		built, err := New(t.Context(), object, []byte("sig"), tekton.Newest)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if entries := must(Entries(built.Manifest.Content)); must(entries[0].Resource(built.Layer.Content)).GetName() != "build" {
			t.Errorf("%s: got %+v", name, entries)
		}
	}
	long.Spec.Steps[0].Script = strings.Repeat("x", MaxLayer)
	if _, err := New(t.Context(), long, []byte("sig"), tekton.Newest); err == nil || !strings.Contains(err.Error(), fmt.Sprint(MaxLayer)) {
		t.Errorf("a resource above MaxLayer: %v", err)
	}
}
