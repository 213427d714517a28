// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"fmt"

	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned/scheme"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Manifest returns a resource in YAML as users keep it in a file: without status and
// without the metadata that the API server writes. Tekton's checksum covers none of the
// omitted fields, so a signature of obj is valid for the manifest, too.
func Manifest(obj resource.Object) ([]byte, error) {
	gvk, err := kindOf(obj)
	if err != nil {
		return nil, err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, err
	}
	kept := unstructured.Unstructured{Object: map[string]any{"spec": content["spec"]}}
	kept.SetGroupVersionKind(gvk)
	kept.SetNamespace(obj.GetNamespace())
	kept.SetName(obj.GetName())
	kept.SetLabels(obj.GetLabels())
	kept.SetAnnotations(obj.GetAnnotations())
	return yaml.Marshal(kept.Object)
}

// kindOf returns the apiVersion and kind of obj. Clients leave the TypeMeta empty.
func kindOf(obj resource.Object) (schema.GroupVersionKind, error) {
	kinds, _, err := scheme.Scheme.ObjectKinds(obj)
	if err != nil {
		return schema.GroupVersionKind{}, err
	}
	if len(kinds) != 1 {
		return schema.GroupVersionKind{}, fmt.Errorf("%T is of %d kinds, expected one: %v", obj, len(kinds), kinds)
	}
	return kinds[0], nil
}
