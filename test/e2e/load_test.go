// SPDX-License-Identifier: Apache-2.0

//go:build rotation

package e2e

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// loadSize says how much a load does.
type loadSize struct {
	namespaces, tasksEach int
	// perSecond is the number of TaskRuns that begin each second, if no more than
	// mostTaskRuns go on.
	perSecond int
	// pipelineRuns is the number of PipelineRuns that go on at any time. Each runs a number
	// of tasks one after the other, each of which lasts for a time.
	pipelineRuns, serial int
	lasting              time.Duration
}

// runLoad keeps runs going in namespaces whose policies refuse every resource that is not
// signed by a key of the KeyRing "default".
type runLoad struct {
	*env
	size       loadSize
	namespaces []loadNamespace
	attestedBy crypto.PublicKey // Chains' key, which no KeyRing changes

	end     context.CancelFunc
	workers sync.WaitGroup
	mu      sync.Mutex
	failed  []error // to create runs
	begun   int     // TaskRuns
}

// startLoad creates the namespaces, resources and policies, and begins with the runs. The
// first key has to be active.
func (e *env) startLoad(size loadSize, first ringKey) *runLoad {
	e.t.Helper()
	l := &runLoad{env: e, size: size, attestedBy: e.public}
	for i := range size.namespaces {
		l.namespaces = append(l.namespaces, loadNamespace{e.namespace(), upkeeps[i%len(upkeeps)]})
	}
	l.createResources()
	e.public = first.public
	for _, ns := range l.namespaces {
		e.waitSigned(ns.name, taskName(size.tasksEach-1))
		e.waitPipelineSigned(ns.name, loadPipeline)
		ns.createPolicy(e, first)
	}
	ctx, cancel := context.WithCancel(e.t.Context())
	l.end = cancel
	e.t.Cleanup(cancel)
	l.workers.Go(func() { l.startTaskRuns(ctx) })
	for i := range size.pipelineRuns {
		l.workers.Go(func() { l.keepPipelineRun(ctx, l.namespaces[i%len(l.namespaces)].name) })
	}
	return l
}

const loadPipeline = "serial"

func taskName(i int) string { return fmt.Sprintf("task-%d", i) }

func (l *runLoad) createResources() {
	l.t.Helper()
	group, ctx := errgroup.WithContext(l.t.Context())
	for _, ns := range l.namespaces {
		group.Go(func() error {
			for i := range l.size.tasksEach {
				_, err := cluster.Tekton.TektonV1().Tasks(ns.name).Create(ctx, newTask(ns.name, taskName(i), buildsImage), metav1.CreateOptions{})
				if err != nil {
					return err
				}
			}
			_, err := cluster.Tekton.TektonV1().Pipelines(ns.name).Create(ctx, l.pipeline(ns.name), metav1.CreateOptions{})
			return err
		})
	}
	l.check(group.Wait())
}

func (l *runLoad) pipeline(namespace string) *v1.Pipeline {
	pipeline := &v1.Pipeline{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: loadPipeline}}
	for i := range l.size.serial {
		task := v1.PipelineTask{
			Name:    fmt.Sprintf("step-%d", i),
			TaskRef: &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, namespace, taskName(i%l.size.tasksEach))},
		}
		if i > 0 {
			task.RunAfter = []string{fmt.Sprintf("step-%d", i-1)}
		}
		pipeline.Spec.Tasks = append(pipeline.Spec.Tasks, task)
	}
	return pipeline
}

// mostTaskRuns is the number of TaskRuns that go on at most. On a busy machine, a rate alone
// would begin more runs than Tekton's controller can end, and no run would end in time.
const mostTaskRuns = 20

// startTaskRuns begins TaskRuns at the rate of the load, unless too many go on.
func (l *runLoad) startTaskRuns(ctx context.Context) {
	ticker := time.NewTicker(time.Second / time.Duration(l.size.perSecond))
	defer ticker.Stop()
	var group errgroup.Group
	group.SetLimit(mostTaskRuns)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			group.Go(func() error { l.note(ctx, l.runTask(ctx)); return nil })
		}
	}
	_ = group.Wait() // the errors are noted
}

// runTask begins a TaskRun and waits until it is done.
func (l *runLoad) runTask(ctx context.Context) error {
	ns, task := l.namespaces[rand.N(len(l.namespaces))].name, taskName(rand.N(l.size.tasksEach)) //nolint:gosec // which Task runs is no secret
	runs := cluster.Tekton.TektonV1().TaskRuns(ns)
	run, err := runs.Create(ctx, &v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{GenerateName: task + "-", Annotations: harness.BuildsImage()},
		Spec:       v1.TaskRunSpec{TaskRef: &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, task)}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.begun++
	l.mu.Unlock()
	return wait.PollUntilContextCancel(ctx, time.Second, false, func(ctx context.Context) (bool, error) {
		found, err := runs.Get(ctx, run.Name, metav1.GetOptions{})
		return err == nil && found.IsDone(), err
	})
}

// keepPipelineRun keeps one PipelineRun going. The last one ends after the load.
func (l *runLoad) keepPipelineRun(ctx context.Context, namespace string) {
	runs := cluster.Tekton.TektonV1().PipelineRuns(namespace)
	annotations := harness.BuildsImage()
	annotations["kubelet.localcluster/duration"] = l.size.lasting.String()
	for ctx.Err() == nil {
		run, err := runs.Create(ctx, &v1.PipelineRun{
			ObjectMeta: metav1.ObjectMeta{GenerateName: loadPipeline + "-", Annotations: annotations},
			Spec:       v1.PipelineRunSpec{PipelineRef: &v1.PipelineRef{ResolverRef: harness.ClusterRef(resource.Pipeline, namespace, loadPipeline)}},
		}, metav1.CreateOptions{})
		if l.note(ctx, err); err != nil {
			return
		}
		l.note(ctx, wait.PollUntilContextCancel(ctx, 5*time.Second, false, func(ctx context.Context) (bool, error) {
			found, err := runs.Get(ctx, run.Name, metav1.GetOptions{})
			return err == nil && found.IsDone(), err
		}))
	}
}

// note keeps an error, unless the load has ended.
func (l *runLoad) note(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, err)
}

// taskRuns returns how many TaskRuns the load has begun.
func (l *runLoad) taskRuns() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.begun
}

// waitRuns waits until the load has begun this number of TaskRuns.
func (l *runLoad) waitRuns(wanted int) {
	l.t.Helper()
	atRate := time.Duration(wanted/l.size.perSecond) * time.Second
	l.eventually(harness.TimeLimit(4*atRate+10*time.Second), func() error {
		if found := l.taskRuns(); found < wanted {
			return fmt.Errorf("%d of %d TaskRuns have begun", found, wanted)
		}
		return nil
	})
}

// stop begins no more runs, waits for the last ones and their attestations, and returns
// how many runs there were, and the error of those that a user would complain about.
func (l *runLoad) stop() (runs int, err error) {
	l.t.Helper()
	l.end()
	l.workers.Wait()
	last := time.Duration(l.size.serial) * l.size.lasting
	var judged verdicts
	l.eventually(harness.TimeLimit(last+2*time.Minute), func() (err error) {
		if judged, err = l.judge(); err == nil && judged.open > 0 {
			err = fmt.Errorf("%d of %d runs are not done and attested, such as %s", judged.open, judged.runs, judged.example)
		}
		return err
	})
	return judged.runs, errors.Join(append(l.failed, judged.problems...)...)
}
