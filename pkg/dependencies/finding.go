// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	"k8s.io/apimachinery/pkg/api/equality"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// reference is how a run refers to a resource, and what Tekton recorded about it.
type reference struct {
	role      Role
	kind      resource.Kind
	resolved  bool // by a resolver, not by a name in the cluster
	notRun    []string
	condition *apis.Condition
	noMatch   policy.Mode
}

// finding is what was read about the resource of one reference. It becomes a
// Dependency once its content is proven and its signatures are looked up.
type finding struct {
	reference
	namespace, name string
	source          v1.RefSource
	checksum        []byte
	pinned          bool   // the checksum is the digest in the status of the run
	signature       string // in the annotation of the content itself
	err             error  // why the content is not known
	content         content
}

// content is the object behind a checksum.
type content struct {
	object resource.Object // nil if only the checksum is known
	err    error           // why the object cannot be read
}

// dependency returns the part of a Dependency that does not depend on a proof.
func (f finding) dependency() Dependency {
	return Dependency{
		Role: f.role, Kind: f.kind, Namespace: f.namespace, Name: f.name, Source: f.source,
		Resolved: f.resolved, NotRun: f.notRun, Condition: f.condition, NoMatch: f.noMatch,
	}
}

// failed returns the finding with the reason why its content is not known.
func (f finding) failed(err error) finding {
	f.err = err
	return f
}

// needsReplay reports whether the content was not compared with a digest in the
// status of the run. Somebody may have written the object in the cluster, or the
// ResolutionRequest, after the run. The digest of a commit or of a bundle is not
// that of the content, so that no comparison is possible.
func (f finding) needsReplay() bool { return f.err == nil && !f.pinned }

// notProven returns the finding after a replay failed. A finding that needs no
// replay stays as it is.
func (f finding) notProven(err error) finding {
	if !f.needsReplay() {
		return f
	}
	if f.resolved && f.role == StepAction {
		f.source = v1.RefSource{} // only the ResolutionRequest names it
	}
	return f.failed(err)
}

// same reports whether two findings are equal. Two steps may refer to one
// StepAction that changed between them, so the content is compared, too.
func (f finding) same(other finding) bool {
	return fmt.Sprint(f.err) == fmt.Sprint(other.err) && bytes.Equal(f.checksum, other.checksum) && f.signature == other.signature &&
		equality.Semantic.DeepEqual(f.dependency(), other.dependency())
}

// resolve returns the finding with what a resolver returned for the run.
// recorded is the source in the status of the run. It is nil for a StepAction:
// Tekton's record of their sources is not reliable.
func (c *collection) resolve(ctx context.Context, f finding, request string, resolver v1.ResolverName, recorded *v1.RefSource) finding {
	if recorded != nil {
		f.source = *recorded
	}
	found, err := c.request(ctx, request, f.kind, recorded)
	switch {
	case err == nil:
		f = c.resolvedContent(ctx, f, found, resolver)
		f.pinned = resolver == resolverCluster && recorded != nil // resolvedContent compares the checksum
		return c.inClaimedNamespace(f)
	case resolver == resolverCluster && recorded != nil:
		return c.recordedChecksum(ctx, f, err)
	default:
		return f.failed(err)
	}
}

// resolvedContent returns the finding with the content of a ResolutionRequest. The
// digest that the cluster resolver recorded is a checksum in the dialect of the
// release that ran the run, which verified a signature over this checksum. Another
// release may be installed since.
func (c *collection) resolvedContent(ctx context.Context, f finding, found *resolvedObject, resolver v1.ResolverName) finding {
	f.source = found.source
	f.namespace, f.name = found.object.GetNamespace(), found.object.GetName()
	checksums, err := resource.ChecksumsOf(ctx, found.object)
	if err != nil {
		return f.failed(err)
	}
	if resolver != resolverCluster {
		return f.withContent(checksums.In(c.Dialect), found.object)
	}
	recorded, err := hex.DecodeString(f.source.Digest[sha256Digest])
	if err == nil {
		if len(checksums.With(recorded)) > 0 {
			return f.withContent(recorded, found.object)
		}
	}
	return f.failed(policy.Unavailable{
		Reason:  policy.DigestMismatch,
		Message: fmt.Sprintf("the content has checksum %x, the run recorded %s", checksums.In(c.Dialect), f.source.Digest[sha256Digest]),
	})
}

// recordedChecksum returns the finding with the checksum that the cluster
// resolver recorded in the status of the run. The ResolutionRequest cannot be
// used: requestErr says why.
func (c *collection) recordedChecksum(ctx context.Context, f finding, requestErr error) finding {
	namespace, name, ok := parseClusterURI(f.source.URI)
	if !ok {
		return f.failed(requestErr)
	}
	f.namespace, f.name = namespace, name
	checksum, err := hex.DecodeString(f.source.Digest[sha256Digest])
	if err != nil || len(checksum) == 0 {
		return f.failed(requestErr)
	}
	f.checksum, f.pinned = checksum, true
	object, err := c.Objects.Object(ctx, f.kind, namespace, name)
	if err != nil {
		f.content = content{err: err}
		return f
	}
	dialects := dialectsOf(ctx, object, checksum)
	if len(dialects) == 0 {
		return f
	}
	if !slices.Contains(dialects, c.Dialect) { // the object was signed again, or will be
		return f.failed(policy.Unavailable{
			Reason: policy.SignatureUnavailable,
			Message: fmt.Sprintf("the run was verified by another release of Tekton (%s), and the ResolutionRequest with the signature "+
				"cannot be read: %v", dialects[0], requestErr),
		})
	}
	f.content = content{object: object}
	return f
}

// local returns the finding with the object in the cluster. A replay has to
// prove that the object is what ran.
func (c *collection) local(ctx context.Context, f finding) finding {
	f.source = v1.RefSource{URI: clusterURI(f.kind, f.namespace, f.name, "")}
	object, err := c.Objects.Object(ctx, f.kind, f.namespace, f.name)
	if err != nil {
		return f.failed(fmt.Errorf("%s %s/%s cannot be read: %w", f.kind, f.namespace, f.name, err))
	}
	if object == nil {
		return f.failed(fmt.Errorf("%s %s/%s is not in the cluster any more", f.kind, f.namespace, f.name))
	}
	// Tekton may fetch an object twice for one run, start the Pod from the first
	// state, and record the second.
	if !c.Creations.CreatedAfter(c.run, object) {
		return f.failed(fmt.Errorf("%s %s/%s may have been written to after the run %s was created", f.kind, f.namespace, f.name, c.run.GetName()))
	}
	checksum, err := resource.Checksum(ctx, object, c.Dialect)
	if err != nil {
		return f.failed(err)
	}
	f.source = v1.RefSource{
		URI:    clusterURI(f.kind, f.namespace, f.name, object.GetUID()),
		Digest: map[string]string{sha256Digest: hex.EncodeToString(checksum)},
	}
	return f.withContent(checksum, object)
}

func (f finding) withContent(checksum []byte, object resource.Object) finding {
	f.checksum, f.content = checksum, content{object: object}
	f.signature = object.GetAnnotations()[trustedresources.SignatureAnnotation]
	return f
}
