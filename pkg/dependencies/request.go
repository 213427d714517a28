package dependencies

import (
	"bytes"
	"context"
	"encoding/hex"
	"slices"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/resolution/v1beta1"
	"github.com/tektoncd/pipeline/pkg/remote/resolution"
	requests "github.com/tektoncd/pipeline/pkg/resolution/resource"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// MaxContent bounds what is decoded of a ResolutionRequest, in bytes of base64.
// What etcd stores by default is smaller.
const MaxContent = 4 << 20

const sha256Digest = "sha256"

// run is what matters of a run to all that is behind it.
type run struct {
	metav1.Object
	owners []types.UID // who may own its ResolutionRequests
}

// resolved is a resource as a resolver returned it.
type resolved struct {
	object resource.Object
	source v1.RefSource
}

// request reads what a resolver returned for a run. recorded is the source that
// the run names, if it does.
func (c *Collector) request(ctx context.Context, r run, name string, kind resource.Kind, recorded *v1.RefSource) (*resolved, *gap) {
	request, err := c.Requests.Request(ctx, r.GetNamespace(), name)
	if err != nil {
		return nil, unavailable("ResolutionRequest %s/%s: %v", r.GetNamespace(), name, err)
	}
	return readRequest(r, request, kind, recorded)
}

func readRequest(r run, request *v1beta1.ResolutionRequest, kind resource.Kind, recorded *v1.RefSource) (*resolved, *gap) {
	owned := slices.ContainsFunc(request.OwnerReferences, func(owner metav1.OwnerReference) bool {
		return slices.Contains(r.owners, owner.UID)
	})
	switch {
	case !owned:
		return nil, unavailable("ResolutionRequest %s belongs to another run", request.Name)
	case !request.Status.GetCondition(apis.ConditionSucceeded).IsTrue():
		return nil, unavailable("ResolutionRequest %s did not succeed", request.Name)
	case request.Status.RefSource == nil:
		return nil, unavailable("ResolutionRequest %s names no source", request.Name)
	case recorded != nil && !equality.Semantic.DeepEqual(recorded, request.Status.RefSource):
		return nil, unavailable("ResolutionRequest %s names another source than the run", request.Name)
	case len(request.Status.Data) > MaxContent:
		return nil, unavailable("ResolutionRequest %s holds %d bytes, expected at most %d", request.Name, len(request.Status.Data), MaxContent)
	}
	// Tekton's own decoding of what a resolver returned.
	decoded, _, err := resolution.ResolvedRequest(requests.CrdIntoResource(request), nil)
	if err != nil {
		return nil, unavailable("ResolutionRequest %s: %v", request.Name, err)
	}
	object, ok := decoded.(resource.Object)
	if !ok {
		return nil, unavailable("ResolutionRequest %s holds a %T, which cannot be signed", request.Name, decoded)
	}
	// Sources do not tell kinds apart: a bundle may hold a Task and a Pipeline
	// of one name.
	if found := resource.KindOf(object); found != kind {
		return nil, unavailable("ResolutionRequest %s holds a %s, expected a %s", request.Name, found, kind)
	}
	return &resolved{object: object, source: *request.Status.RefSource}, nil
}

// content takes the checksum of what a resolver returned.
func (c *Collector) content(ctx context.Context, r run, kind resource.Kind, res *resolved, resolver string) (*Content, *gap) {
	checksum, err := resource.Checksum(ctx, res.object)
	if err != nil {
		return nil, unavailable("%v", err)
	}
	if found := hex.EncodeToString(checksum); resolver == resolverCluster && found != res.source.Digest[sha256Digest] {
		return nil, &gap{policy.DigestMismatch, "the content has checksum " + found + ", the run recorded " + res.source.Digest[sha256Digest]}
	}
	return c.signed(ctx, r, kind, res.object, checksum)
}

// recordedContent is all that is left when what the cluster resolver returned
// is gone: it records the checksum.
func (c *Collector) recordedContent(ctx context.Context, r run, kind resource.Kind, source v1.RefSource) (*Content, *gap) {
	checksum, err := hex.DecodeString(source.Digest[sha256Digest])
	if err != nil || len(checksum) == 0 {
		return nil, unavailable("the run has recorded no checksum of %s", source.URI)
	}
	named := &metav1.ObjectMeta{}
	named.Namespace, named.Name, _ = parseClusterURI(source.URI)
	return c.signed(ctx, r, kind, named, checksum)
}

// signed is the content with this checksum, and the signatures that may be over
// it.
func (c *Collector) signed(ctx context.Context, r run, kind resource.Kind, of metav1.Object, checksum []byte) (*Content, *gap) {
	signatures, missing := c.candidates(ctx, r, kind, of, checksum)
	if missing != nil {
		return nil, missing
	}
	return &Content{Checksum: checksum, Signatures: signatures}, nil
}

// candidates are the signatures that may be over the checksum: first the one of
// the content itself, empty if it has none.
func (c *Collector) candidates(ctx context.Context, r run, kind resource.Kind, of metav1.Object, checksum []byte) ([]string, *gap) {
	own := of.GetAnnotations()[trustedresources.SignatureAnnotation] // as Tekton saw it, however long
	found := []string{own}
	add := func(signature string) {
		if signature != "" && len(signature) <= resource.MaxSignatureLength && !slices.Contains(found, signature) {
			found = append(found, signature)
		}
	}
	live, err := c.Objects.Object(kind, of.GetNamespace(), of.GetName())
	if err == nil && live != nil {
		signature := live.GetAnnotations()[trustedresources.SignatureAnnotation]
		if !slices.Contains(found, signature) && hasChecksum(ctx, live, checksum) {
			add(signature)
		}
	}
	if own == "" && len(found) == 1 { // a registry takes longer to answer
		signature, err := c.Stored.Signature(ctx, kind, of.GetNamespace(), of.GetName(), checksum)
		if err != nil {
			return nil, &gap{policy.SignatureUnavailable, err.Error()}
		}
		add(signature)
	}
	add(r.GetAnnotations()[trustedresources.SignatureAnnotation])
	return found, nil
}

func hasChecksum(ctx context.Context, live resource.Object, checksum []byte) bool {
	found, err := resource.Checksum(ctx, live)
	return err == nil && bytes.Equal(found, checksum)
}

// asTask is what a resolver returned as the Task that Tekton runs.
func asTask(ctx context.Context, object resource.Object) (*v1.Task, *gap) {
	if task, ok := object.(*v1.Task); ok {
		return task, nil
	}
	return converted(ctx, object, &v1.Task{})
}

func asPipeline(ctx context.Context, object resource.Object) (*v1.Pipeline, *gap) {
	if pipeline, ok := object.(*v1.Pipeline); ok {
		return pipeline, nil
	}
	return converted(ctx, object, &v1.Pipeline{})
}

func converted[To apis.Convertible](ctx context.Context, object resource.Object, to To) (To, *gap) {
	from, ok := object.(apis.Convertible)
	if !ok {
		return to, unavailable("a %T is no %T", object, to)
	}
	if err := from.ConvertTo(ctx, to); err != nil {
		return to, unavailable("%v", err)
	}
	return to, nil
}
