// SPDX-License-Identifier: Apache-2.0

package tektonbundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/remote/oci"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func newMeta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "prod", Name: name} }

func task(name string) *v1.Task {
	t := &v1.Task{ObjectMeta: newMeta(name)}
	t.Labels = map[string]string{"a": "b"}
	t.Spec.Params = v1.ParamSpecs{{Name: "p"}}
	t.Spec.Steps = []v1.Step{{Name: "run", Image: "busybox", Script: "make <all> && make test"}}
	return t
}

func objects() []resource.Object {
	return []resource.Object{
		task("build"),
		&v1.Pipeline{ObjectMeta: newMeta("build"), Spec: v1.PipelineSpec{Tasks: []v1.PipelineTask{{Name: "a", TaskRef: &v1.TaskRef{Name: "build"}}}}},
		&v1beta1.StepAction{ObjectMeta: newMeta("build"), Spec: v1beta1.StepActionSpec{Image: "busybox", Script: "make"}},
	}
}

func build(t *testing.T, object resource.Object, signature string) *Bundle {
	t.Helper()
	built, err := New(t.Context(), object, []byte(signature), tekton.Newest)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// tarOf returns a tar archive with one file.
func tarOf(content []byte) []byte {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: "build", Mode: 0o600, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
		panic(err)
	}
	if _, err := w.Write(content); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return archive.Bytes()
}

func gzipped(content []byte) []byte {
	var archive bytes.Buffer
	w := gzip.NewWriter(&archive)
	if _, err := w.Write(content); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return archive.Bytes()
}

// yamlTask is a Task in YAML.
const yamlTask = "apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {name: build}\nspec: {steps: [{name: a, image: busybox}]}\n"

// layerOf returns the descriptor of a Task's layer as tkn bundle push writes it.
func layerOf(name string) ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip", Digest: digest.FromString(name), Size: 100,
		Annotations: map[string]string{oci.KindAnnotation: "task", oci.TitleAnnotation: name, oci.APIVersionAnnotation: "v1"},
	}
}

// manifestOf returns a manifest with these layers.
func manifestOf(layers ...ocispec.Descriptor) []byte {
	return must(json.Marshal(ocispec.Manifest{Config: ocispec.DescriptorEmptyJSON, Layers: layers}))
}
