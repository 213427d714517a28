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

// Manifest is a resource as one would keep it in a file: without status and
// without what the API server writes into metadata. Nothing that is left out is
// part of Tekton's checksum, so a signature on obj holds for the manifest, too.
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

// kindOf is what the TypeMeta of obj should say: clients leave it empty.
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
