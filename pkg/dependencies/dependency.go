// Package dependencies finds out which resources are behind a run and what their
// content was when it ran, from the run's own record. It claims nothing that
// the record does not show: a resource whose content cannot be established is
// an Item without Content.
package dependencies

import (
	"context"
	"fmt"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/resolution/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Role is what a resource is to the run, as Chains names its dependencies
// (resolved_dependencies.go in tektoncd/chains).
type Role string

// The roles. StepAction is ours: Chains has no dependency for them.
const (
	Pipeline     Role = "pipeline"
	PipelineTask Role = "pipelineTask"
	Task         Role = "task"
	StepAction   Role = "stepAction"
)

// Item is one resource behind a run.
type Item struct {
	Role            Role
	Kind            resource.Kind
	Namespace, Name string
	// Source is where it came from. Its URI is empty for a spec that the run
	// itself carries, its digest when that is not known.
	Source v1.RefSource
	// Content is nil when it cannot be established; Gap and Message say why.
	Content *Content
	Gap     policy.Reason
	Message string
	// Referenced says that a resolver fetched it, so that Tekton verified it
	// unless no policy matched.
	Referenced bool
	// NotRun are the tasks of a Pipeline whose resources Tekton may have verified
	// although they did not run: its condition on the run may be theirs.
	NotRun []string
	// Verified is Tekton's condition on the TaskRun that ran it, if there is one.
	Verified *apis.Condition
	// NoMatch is what Tekton did about resources that no policy matches.
	NoMatch policy.Mode
}

// Content is what ran.
type Content struct {
	Checksum []byte
	// Signatures are candidates: the value of the signature annotation of the
	// content itself, which may be empty, and those found on the live object or
	// else in a registry, and on the run. None is proof of anything until it verifies over Checksum.
	Signatures []string
}

// Objects are the resources in the cluster now. What is not there is nil.
type Objects interface {
	Object(kind resource.Kind, namespace, name string) (resource.Object, error)
}

// Requests reads a ResolutionRequest. The error is of any kind.
type Requests interface {
	Request(ctx context.Context, namespace, name string) (*v1beta1.ResolutionRequest, error)
}

// History knows whether an object was written to since a run was created. What
// it does not know for certain, it denies.
type History interface {
	UnchangedSince(run, object metav1.Object) bool
}

// Stored knows the signatures that are kept outside of the cluster.
type Stored interface {
	// Signature is what the signature annotation of a resource with this checksum
	// would be, empty if it is not known there. An error means that it could not
	// be found out.
	Signature(ctx context.Context, kind resource.Kind, namespace, name string, checksum []byte) (string, error)
}

// Collector collects the evidence for runs.
type Collector struct {
	Objects  Objects
	Requests Requests
	History  History
	Stored   Stored
}

// gap says why content cannot be established.
type gap struct {
	reason  policy.Reason
	message string
}

func (g *gap) Error() string { return string(g.reason) + ": " + g.message }

func unavailable(format string, args ...any) *gap {
	return &gap{policy.ContentUnavailable, fmt.Sprintf(format, args...)}
}

func (i *Item) missing(g *gap) {
	i.Content, i.Gap, i.Message = nil, g.reason, g.message
}
