// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"slices"
	"sync"
	"time"

	"github.com/jellydator/ttlcache/v3"
	pipelineapi "github.com/tektoncd/pipeline/pkg/apis/pipeline"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/trusted-resources/chains-extension/pkg/dependencies"
)

// Bounds of what is kept about runs. The run that was seen longest ago is
// forgotten first.
const (
	maxCreationBytes = 32 << 20
	creationBytes    = 200 // of a run, about
	childBytes       = 150 // of each TaskRun of a PipelineRun, about
	creationLifetime = 48 * time.Hour
)

// creation is what this process saw of the beginning of a run.
type creation struct {
	// version is the resourceVersion that the run had when it was created. It is
	// empty if the run was not seen in that state.
	version string
	// children are the UIDs of the first TaskRuns of a PipelineRun, by name.
	children map[string]types.UID
}

// runCreations keeps how runs began. It knows only the runs that this process saw
// when they were created.
type runCreations struct {
	writes *SignatureWrites

	mu   sync.Mutex // guards the creations in seen
	seen *ttlcache.Cache[types.UID, creation]
}

var _ dependencies.RunCreations = (*runCreations)(nil)

func newRunCreations(writes *SignatureWrites) *runCreations {
	return &runCreations{writes: writes, seen: ttlcache.New(
		ttlcache.WithTTL[types.UID, creation](creationLifetime),
		ttlcache.WithDisableTouchOnHit[types.UID, creation](),
		ttlcache.WithMaxCost(maxCreationBytes, func(item ttlcache.CostItem[types.UID, creation]) uint64 {
			return uint64(creationBytes + childBytes*len(item.Value.children))
		}),
	)}
}

// observe handles an object of the informers of TaskRuns and PipelineRuns.
func (c *runCreations) observe(item any) {
	switch run := item.(type) {
	case *v1.TaskRun:
		c.record(run, run.Status.StartTime == nil && len(run.Status.Conditions) == 0, taskRunFinalizer)
		if owner := metav1.GetControllerOf(run); owner != nil && owner.Kind == pipelineapi.PipelineRunControllerName {
			c.recordChild(owner.UID, run)
		}
	case *v1.PipelineRun:
		c.record(run, run.Status.StartTime == nil && len(run.Status.Conditions) == 0, pipelineRunFinalizer)
	}
}

// record keeps the resourceVersion of a run that was not written to after its
// creation. Tekton's first write sets the status, and that of Chains the
// finalizer.
func (c *runCreations) record(run metav1.Object, noStatus bool, finalizer string) {
	if !noStatus || slices.Contains(run.GetFinalizers(), finalizer) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	began := c.of(run.GetUID())
	if began.version == "" {
		began.version = run.GetResourceVersion()
		c.seen.Set(run.GetUID(), began, ttlcache.DefaultTTL)
	}
}

// recordChild keeps the UID of the first TaskRun that a PipelineRun had under a
// name. The TaskRun may arrive before the PipelineRun.
func (c *runCreations) recordChild(parent types.UID, child metav1.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	began := c.of(parent)
	if _, known := began.children[child.GetName()]; known {
		return
	}
	if began.children == nil {
		began.children = map[string]types.UID{}
	}
	began.children[child.GetName()] = child.GetUID()
	c.seen.Set(parent, began, ttlcache.DefaultTTL)
}

// of is called with the lock held.
func (c *runCreations) of(run types.UID) creation {
	if item := c.seen.Get(run); item != nil {
		return item.Value()
	}
	return creation{}
}

// CreatedAfter implements dependencies.RunCreations. It compares resourceVersions
// of different kinds: the API server numbers the writes of all custom resources
// in one sequence, because they are in one etcd (--etcd-servers-overrides moves
// built-in resources only). A write of this process that replaced the signature does not
// count: the content stayed as it was.
func (c *runCreations) CreatedAfter(run, object metav1.Object) bool {
	written := c.writes.contentVersion(object.GetUID(), object.GetResourceVersion())
	c.mu.Lock()
	defer c.mu.Unlock()
	return older(written, c.of(run.GetUID()).version)
}

// IsFirstChild implements dependencies.RunCreations. A PipelineRun whose creation
// was not seen may have had other TaskRuns before.
func (c *runCreations) IsFirstChild(parent, child metav1.Object) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	began := c.of(parent.GetUID())
	return began.children[child.GetName()] == child.GetUID() && older(began.version, c.of(child.GetUID()).version)
}

// childCreations are runCreations for the gate. After a restart, or after a watch was
// interrupted, nobody has seen the beginning of some runs. To refuse all of these would
// end each PipelineRun that is in progress. So what the API server itself has recorded
// counts for TaskRuns: that this UID is the only one that was seen under its name, and
// that the TaskRun was not created before its PipelineRun. What another TaskRun of this
// name may have done before is not lost: its Pod was held, too.
type childCreations struct{ *runCreations }

var _ dependencies.RunCreations = childCreations{}

// IsFirstChild implements dependencies.RunCreations.
func (c childCreations) IsFirstChild(parent, child metav1.Object) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	began, childBegan := c.of(parent.GetUID()), c.of(child.GetUID())
	switch {
	case began.children[child.GetName()] != child.GetUID():
		return false
	case began.version != "" && childBegan.version != "":
		return older(began.version, childBegan.version)
	default:
		created, parentCreated := child.GetCreationTimestamp(), parent.GetCreationTimestamp()
		return !created.IsZero() && !created.Before(&parentCreated)
	}
}

// older reports whether a resourceVersion is known to be older than another. An
// empty one is not known.
func older(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}
