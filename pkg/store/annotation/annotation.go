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

// Put writes the signature into the annotation, in one request that changes
// nothing else. The API server refuses the request (409 Conflict) if the resource
// is not in the state of the summary any more. Put returns the resource as the API
// server stored it.
func Put(ctx context.Context, patcher Patcher, r *resource.Summary, signature []byte) (resource.Object, error) {
	var patch metadataPatch
	patch.Metadata.ResourceVersion = r.ResourceVersion
	patch.Metadata.Annotations = map[string]string{
		trustedresources.SignatureAnnotation: resource.EncodeSignature(signature),
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("encoding the patch: %w", err)
	}
	return patcher.Patch(ctx, r.Namespace, r.Name, data)
}
