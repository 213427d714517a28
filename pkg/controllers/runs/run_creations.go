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
	maxSightings = 100_000 // at about 200 bytes each
	sightingLife = 48 * time.Hour
)

// sightings remembers the resourceVersion with which each run was created, as
// far as this process has seen that.
type sightings struct {
	created *ttlcache.Cache[types.UID, string]
}

var _ dependencies.History = (*sightings)(nil)

func newSightings() *sightings {
	return &sightings{ttlcache.New(
		ttlcache.WithCapacity[types.UID, string](maxSightings),
		ttlcache.WithTTL[types.UID, string](sightingLife),
		ttlcache.WithDisableTouchOnHit[types.UID, string](),
	)}
}

// see takes in what the informer of TaskRuns or PipelineRuns says.
func (s *sightings) see(item any) {
	switch run := item.(type) {
	case *v1.TaskRun:
		s.note(run, run.Status.StartTime == nil && len(run.Status.Conditions) == 0, taskRunFinalizer)
	case *v1.PipelineRun:
		s.note(run, run.Status.StartTime == nil && len(run.Status.Conditions) == 0, pipelineRunFinalizer)
	}
}

// note remembers a run that nobody has written to yet: Tekton sets the status
// first, and we the finalizer.
func (s *sightings) note(run metav1.Object, untouched bool, finalizer string) {
	if untouched && !slices.Contains(run.GetFinalizers(), finalizer) {
		s.created.GetOrSet(run.GetUID(), run.GetResourceVersion())
	}
}

// UnchangedSince implements dependencies.History. The API server numbers the writes
// of all custom resources in one sequence: they are in one etcd, even if it
// keeps other resources elsewhere (--etcd-servers-overrides).
func (s *sightings) UnchangedSince(run, object metav1.Object) bool {
	created := s.created.Get(run.GetUID())
	if created == nil {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(object.GetResourceVersion(), created.Value())
	return err == nil && order < 0
}
