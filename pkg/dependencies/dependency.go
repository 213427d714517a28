// SPDX-License-Identifier: Apache-2.0

// Package dependencies finds the resources that a run depends on, and their
// content at the time of the run, from the record of the run itself. A resource
// whose content the record does not prove is a Dependency without Content.
package dependencies

import (
	"context"
	"errors"
	"net"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Role is how a run uses a resource, spelled as the name of the dependency that
// Chains writes (resolved_dependencies.go in tektoncd/chains).
type Role string

// The roles. Chains writes no dependency for StepActions: that role is our own.
const (
	Pipeline     Role = "pipeline"
	PipelineTask Role = "pipelineTask"
	Task         Role = "task"
	StepAction   Role = "stepAction"
)

// Dependency is one resource that a run depends on. It is a value: nothing
// changes a Dependency after the Collector returned it.
type Dependency struct {
	Role Role
	Kind resource.Kind
	// Namespace and Name are those of the resource. Where they are not known, they
	// are those of the run or the task of the Pipeline.
	Namespace, Name string
	// Source is where the resource came from. The URI is empty for a spec in the
	// run itself. The digest is empty if it is not known.
	Source v1.RefSource
	// Content is nil if the content is not known. Unavailable then says why.
	Content     *Content
	Unavailable policy.Unavailable
	// Resolved reports whether a resolver fetched the resource. Tekton verifies
	// only those.
	Resolved bool
	// NotRun names the tasks of a Pipeline that did not run, and whose resources
	// Tekton may have verified: the condition of the PipelineRun may be about them.
	NotRun []string
	// Condition is Tekton's condition TrustedResourcesVerified of the TaskRun that
	// ran the resource. It is nil if there is none.
	Condition *apis.Condition
	// NoMatch is what Tekton did about resources that no policy matches.
	NoMatch policy.Mode
}

// Content is the content of a resource as the run used it.
type Content struct {
	// Checksum is Tekton's checksum.
	Checksum []byte
	// Signatures are candidates, as policy.Resource describes them.
	Signatures []string
	// RequestedBy is the user in the annotation of that name, which the checksum covers. It
	// is empty if only the checksum is known.
	RequestedBy string
}

// PolicyResource returns what policies are evaluated on.
func (d Dependency) PolicyResource() policy.Resource {
	r := policy.Resource{Unavailable: d.Unavailable, Source: d.Source.URI, NoMatch: d.NoMatch}
	if d.Content != nil {
		r.Checksum, r.Signatures = d.Content.Checksum, d.Content.Signatures
	}
	return r
}

// established returns the Dependency of a finding whose content is proven.
func established(f finding, signatures []string) Dependency {
	d := f.dependency()
	d.Content = &Content{Checksum: f.checksum, Signatures: signatures}
	if f.content.object != nil {
		d.Content.RequestedBy = f.content.object.GetAnnotations()[v1alpha1.RequestedByAnnotation]
	}
	return d
}

// unavailable returns the Dependency of a finding whose content, or signature,
// is not known. The digest of a local reference is that of the object in the
// cluster now, so it is left out.
func unavailable(f finding, err error) Dependency {
	d := f.dependency()
	if !f.resolved {
		d.Source = v1.RefSource{URI: f.source.URI}
		if f.source.URI != "" {
			d.Source.URI = clusterURI(f.kind, f.namespace, f.name, "")
		}
	}
	if !errors.As(err, &d.Unavailable) {
		d.Unavailable = policy.Unavailable{Reason: policy.ContentUnavailable, Message: err.Error(), Temporary: isTemporary(err)}
	}
	return d
}

// isTemporary reports whether an error says that something could not be read now, as
// opposed to something that does not exist, or is not what ran.
func isTemporary(err error) bool {
	if apierrors.IsNotFound(err) {
		return false
	}
	var answer apierrors.APIStatus
	_, network := errors.AsType[net.Error](err)
	return errors.As(err, &answer) || network || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
