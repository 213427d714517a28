// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"context"

	"github.com/tektoncd/pipeline/pkg/apis/resolution/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// Objects reads the resources in the cluster.
type Objects interface {
	// Object returns nil if there is no such object. An error means that the
	// object could not be read. The caller does not change the object.
	Object(ctx context.Context, kind resource.Kind, namespace, name string) (resource.Object, error)
}

// Requests reads ResolutionRequests. An object that does not exist is an error.
type Requests interface {
	Request(ctx context.Context, namespace, name string) (*v1beta1.ResolutionRequest, error)
}

// RunCreations knows when runs were created.
type RunCreations interface {
	// CreatedAfter reports whether the run was created after the last write to the
	// object. It is false if that is not certain.
	CreatedAfter(run, object metav1.Object) bool
	// IsFirstChild reports whether child was created after parent, and is the first
	// object of its name that parent controls. It is false if that is not certain.
	IsFirstChild(parent, child metav1.Object) bool
}

// StoredSignatures reads signatures that are kept outside of the cluster.
type StoredSignatures interface {
	// Signature returns the value of the signature annotation for a resource with
	// this checksum, empty if there is none. An error means that the signature
	// could not be read.
	Signature(ctx context.Context, kind resource.Kind, namespace, name string, checksum []byte) (string, error)
}

// Collector collects the dependencies of runs.
type Collector struct {
	Objects      Objects
	Requests     Requests
	Creations    RunCreations
	Stored       StoredSignatures
	Repositories Repositories
	// Dialect is that of the installed release of Tekton.
	Dialect tekton.Dialect
}

// collection collects the dependencies of one run. It reads each object and each
// ResolutionRequest once, so that the checksum and the replay are of the same
// content, even if the content changes in the cluster meanwhile.
type collection struct {
	Collector
	run    metav1.Object
	owners []types.UID // that may own the ResolutionRequests of the run
	budget *budget
}

// collection returns a collection for one run. objects keeps what it read, so it
// is shared by the runs of one PipelineRun. Requests are kept for one run only:
// no two runs use the same one, and each may hold megabytes.
func (c *Collector) collection(objects *objectsOnce, run metav1.Object, owners ...types.UID) *collection {
	return &collection{
		Collector: Collector{
			Objects: objects, Requests: newRequestsOnce(c.Requests), Creations: c.Creations, Stored: c.Stored,
			Repositories: c.Repositories, Dialect: c.Dialect,
		},
		run: run, owners: owners, budget: newBudget(),
	}
}

func (c *Collector) objectsOnce() *objectsOnce { return newObjectsOnce(c.Objects) }

// conclude looks up the signatures of a finding and returns the Dependency.
func (c *collection) conclude(ctx context.Context, f finding) Dependency {
	if f.err != nil {
		return unavailable(f, f.err)
	}
	signatures, err := c.candidates(ctx, f)
	if err != nil {
		return unavailable(f, err)
	}
	return established(f, signatures)
}
