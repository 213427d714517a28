// Package annotation writes the signature of a resource into the annotation
// tekton.dev/signature of the resource, where Tekton's verifier reads it.
package annotation

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/tektoncd/pipeline/pkg/trustedresources"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Patcher applies a JSON merge patch to a resource in the cluster and returns the
// resource after the patch.
type Patcher interface {
	Patch(ctx context.Context, namespace, name string, mergePatch []byte) (resource.Object, error)
}

type metadataPatch struct {
	Metadata struct {
		ResourceVersion string            `json:"resourceVersion"`
		Annotations     map[string]string `json:"annotations"`
	} `json:"metadata"`
}

// Put writes the signature of obj with one merge patch that changes nothing else,
// and returns the resource after the patch. The patch contains the
// resourceVersion of obj, so the API server rejects it (409 Conflict) if the
// resource has changed since it was signed.
func Put(ctx context.Context, patcher Patcher, obj resource.Object, signature []byte) (resource.Object, error) {
	var patch metadataPatch
	patch.Metadata.ResourceVersion = obj.GetResourceVersion()
	patch.Metadata.Annotations = map[string]string{
		trustedresources.SignatureAnnotation: resource.EncodeSignature(signature),
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("encoding the patch: %w", err)
	}
	return patcher.Patch(ctx, obj.GetNamespace(), obj.GetName(), data)
}
