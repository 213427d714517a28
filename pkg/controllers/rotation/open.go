// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tektoncd/chains/pkg/chains/annotations"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// run is a TaskRun or a PipelineRun.
type run interface {
	metav1.Object
	IsDone() bool
}

var (
	_ run = (*v1.TaskRun)(nil)
	_ run = (*v1.PipelineRun)(nil)
)

// listedRuns are the runs that the last list of the API server had as open.
type listedRuns struct {
	before time.Time
	runs   []openRun
}

type openRun struct{ kind, namespace, name string }

const kindTaskRun, kindPipelineRun = "TaskRun", "PipelineRun"

// openRuns returns the runs that began before a time and are not done, or have no
// attestation yet. A list of all runs can have hundreds of megabytes, so those that were open
// are read one by one, until one is still open. Only if none is, all runs are listed again.
func (c *Controller) openRuns(ctx context.Context, ring string, before time.Time) ([]openRun, error) {
	known := c.open[ring]
	if known == nil || !known.before.Equal(before) {
		known = &listedRuns{before: before}
		c.open[ring] = known
	}
	for len(known.runs) > 0 {
		open, err := c.isStillOpen(ctx, known.runs[0], before)
		if err != nil || open {
			return known.runs, err
		}
		known.runs = known.runs[1:]
	}
	var err error
	known.runs, err = c.listOpenRuns(ctx, before)
	return known.runs, err
}

func (c *Controller) isStillOpen(ctx context.Context, named openRun, before time.Time) (bool, error) {
	var found run
	var err error
	if named.kind == kindPipelineRun {
		found, err = c.Tekton.TektonV1().PipelineRuns(named.namespace).Get(ctx, named.name, metav1.GetOptions{})
	} else {
		found, err = c.Tekton.TektonV1().TaskRuns(named.namespace).Get(ctx, named.name, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil && c.isOpen(found, before), err
}

// listOpenRuns lists PipelineRuns first: they go on for longer.
func (c *Controller) listOpenRuns(ctx context.Context, before time.Time) (open []openRun, err error) {
	visit := func(kind string) func(item runtime.Object) error {
		return func(item runtime.Object) error {
			if run, ok := item.(run); ok && c.isOpen(run, before) {
				open = append(open, openRun{kind, run.GetNamespace(), run.GetName()})
			}
			return nil
		}
	}
	err = eachItem(ctx, func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return c.Tekton.TektonV1().PipelineRuns(metav1.NamespaceAll).List(ctx, o)
	}, visit(kindPipelineRun))
	if err != nil {
		return nil, err
	}
	err = eachItem(ctx, func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return c.Tekton.TektonV1().TaskRuns(metav1.NamespaceAll).List(ctx, o)
	}, visit(kindTaskRun))
	return open, err
}

func listRuns(open []openRun) string {
	names := make([]string, 0, maxListed)
	for _, r := range open[:min(len(open), maxListed)] {
		names = append(names, r.kind+" "+r.namespace+"/"+r.name)
	}
	return strings.Join(names, ", ")
}

// isOpen reports whether a run may still need a key that signed before a time. Creation
// times have seconds.
func (c *Controller) isOpen(r run, before time.Time) bool {
	switch {
	case r.GetNamespace() == v1alpha1.CanaryNamespace, r.GetCreationTimestamp().After(before.Add(time.Second)):
		return false
	case !r.IsDone():
		return true
	case r.GetAnnotations()[annotations.ChainsAnnotation] != "": // Chains marks each run that it has seen, also without a signer
		return false
	}
	// Where another controller attests, only its finalizer tells that it will. Our own may
	// not have seen the run yet.
	return c.Attests(r.GetNamespace()) ||
		slices.ContainsFunc(r.GetFinalizers(), func(f string) bool { return strings.HasPrefix(f, annotations.ChainsAnnotationPrefix) })
}
