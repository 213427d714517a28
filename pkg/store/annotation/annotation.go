// Package annotation keeps a signature on the resource itself, in the
// annotation where Tekton's verifier looks for it.
package annotation

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/tektoncd/pipeline/pkg/trustedresources"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Patcher applies a JSON merge patch to a resource and returns it as stored.
type Patcher interface {
	Patch(ctx context.Context, namespace, name string, mergePatch []byte) (resource.Object, error)
}

type metadataPatch struct {
	Metadata struct {
		ResourceVersion string            `json:"resourceVersion"`
		Annotations     map[string]string `json:"annotations"`
	} `json:"metadata"`
}

// Store writes the signature of obj, in one request that changes nothing else
// and that the API server refuses (409 Conflict) when the resource is not in
// the state that was signed any more. It returns the resource as stored.
func Store(ctx context.Context, patcher Patcher, obj resource.Object, signature []byte) (resource.Object, error) {
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
