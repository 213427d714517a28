// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"context"
	"fmt"
	"slices"

	"github.com/tektoncd/pipeline/pkg/trustedresources"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// candidates returns the signatures that may be over the checksum of a finding:
// that of the content itself, that of the object in the cluster if it has the
// same checksum, or else that in a registry, and that on the run.
func (c *collection) candidates(ctx context.Context, f finding) ([]string, error) {
	found := []string{f.signature} // as Tekton saw it, of any length
	add := func(signature string) {
		if signature != "" && len(signature) <= resource.MaxSignatureLength && !slices.Contains(found, signature) {
			found = append(found, signature)
		}
	}
	live, liveErr := c.liveSignature(ctx, f)
	add(live)
	// The registry is asked last, because it takes longest to answer.
	if f.signature == "" && len(found) == 1 {
		stored, err := c.Stored.Signature(ctx, f.kind, f.namespace, f.name, f.checksum)
		if err != nil {
			return nil, policy.Unavailable{Reason: policy.SignatureUnavailable, Message: err.Error(), Temporary: true}
		}
		add(stored)
		if stored == "" && liveErr != nil {
			return nil, policy.Unavailable{
				Reason:  policy.SignatureUnavailable,
				Message: fmt.Sprintf("%s %s/%s, which may carry the signature, cannot be read: %v", f.kind, f.namespace, f.name, liveErr),

				Temporary: isTemporary(liveErr),
			}
		}
	}
	add(c.run.GetAnnotations()[trustedresources.SignatureAnnotation])
	return found, nil
}

// liveSignature returns the signature of the object in the cluster, empty if the
// object does not have the checksum of the finding.
func (c *collection) liveSignature(ctx context.Context, f finding) (string, error) {
	live, err := c.Objects.Object(ctx, f.kind, f.namespace, f.name)
	if err != nil || live == nil {
		return "", err
	}
	signature := live.GetAnnotations()[trustedresources.SignatureAnnotation]
	if signature == f.signature || len(dialectsOf(ctx, live, f.checksum)) == 0 {
		return "", nil
	}
	return signature, nil
}

// dialectsOf returns the dialects in which an object, which may be nil, has the
// checksum. There is none if the object has another content.
func dialectsOf(ctx context.Context, object resource.Object, checksum []byte) []tekton.Dialect {
	if object == nil {
		return nil
	}
	found, err := resource.ChecksumsOf(ctx, object)
	if err != nil {
		return nil
	}
	return found.With(checksum)
}
