// SPDX-License-Identifier: Apache-2.0

// Package annotation writes the signature of a resource into the annotation
// tekton.dev/signature of the resource, where Tekton's verifier reads it.
package annotation

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Patcher applies a JSON merge patch to a resource in the cluster and returns the
// metadata of the resource after the patch.
type Patcher interface {
	Patch(ctx context.Context, kind resource.Kind, namespace, name string, mergePatch []byte) (metav1.Object, error)
}

type metadataPatch struct {
	Metadata struct {
		ResourceVersion string            `json:"resourceVersion"`
		Annotations     map[string]string `json:"annotations"`
	} `json:"metadata"`
}

// Put writes the signature of a resource with one merge patch that changes nothing
// else, and returns the metadata of the resource after the patch. The patch
// contains the resourceVersion of the summary, so the API server rejects it (409
// Conflict) if the resource has changed since it was signed.
func Put(ctx context.Context, patcher Patcher, r *resource.Summary, signature []byte) (metav1.Object, error) {
	var patch metadataPatch
	patch.Metadata.ResourceVersion = r.ResourceVersion
	patch.Metadata.Annotations = map[string]string{
		trustedresources.SignatureAnnotation: resource.EncodeSignature(signature),
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("encoding the patch: %w", err)
	}
	return patcher.Patch(ctx, r.Kind, r.Namespace, r.Name, data)
}
