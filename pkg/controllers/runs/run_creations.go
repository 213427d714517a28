// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"slices"
	"time"

	"github.com/jellydator/ttlcache/v3"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/trusted-resources/chains-extension/pkg/dependencies"
)

const (
	maxCreations     = 100_000 // at about 200 bytes each
	creationLifetime = 48 * time.Hour
)

// runCreations keeps the resourceVersion that each run had when it was created.
// It knows only the runs that this process saw in that state.
type runCreations struct {
	versions *ttlcache.Cache[types.UID, string]
}

var _ dependencies.RunCreations = (*runCreations)(nil)

func newRunCreations() *runCreations {
	return &runCreations{ttlcache.New(
		ttlcache.WithCapacity[types.UID, string](maxCreations),
		ttlcache.WithTTL[types.UID, string](creationLifetime),
		ttlcache.WithDisableTouchOnHit[types.UID, string](),
	)}
}

// observe handles an object of the informers of TaskRuns and PipelineRuns.
func (c *runCreations) observe(item any) {
	switch run := item.(type) {
	case *v1.TaskRun:
		c.record(run, run.Status.StartTime == nil && len(run.Status.Conditions) == 0, taskRunFinalizer)
	case *v1.PipelineRun:
		c.record(run, run.Status.StartTime == nil && len(run.Status.Conditions) == 0, pipelineRunFinalizer)
	}
}

// record keeps the resourceVersion of a run that was not written to after its
// creation. Tekton's first write sets the status, and that of Chains the
// finalizer.
func (c *runCreations) record(run metav1.Object, noStatus bool, finalizer string) {
	if noStatus && !slices.Contains(run.GetFinalizers(), finalizer) {
		c.versions.GetOrSet(run.GetUID(), run.GetResourceVersion())
	}
}

// CreatedAfter implements dependencies.RunCreations. It compares resourceVersions
// of different kinds: the API server numbers the writes of all custom resources
// in one sequence, because they are in one etcd (--etcd-servers-overrides moves
// built-in resources only).
func (c *runCreations) CreatedAfter(run, object metav1.Object) bool {
	created := c.versions.Get(run.GetUID())
	if created == nil {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(object.GetResourceVersion(), created.Value())
	return err == nil && order < 0
}
