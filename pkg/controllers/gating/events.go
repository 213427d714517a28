// SPDX-License-Identifier: Apache-2.0

package gating

import (
	"context"
	"errors"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	pipelineruninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/pipelinerun"
	taskruninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/taskrun"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/controllers/turns"
)

// unseen is how long the Pod of a TaskRun may be missing in the cache.
const unseen = 5 * time.Second

// enqueueAll enqueues the TaskRuns whose Pods wait.
func (c *Controller) enqueueAll(wanted func(types.NamespacedName) bool) {
	for _, key := range c.pods.taskRuns() {
		if wanted(key) {
			c.turns.Add(key, turns.Checked)
		}
	}
}

// watch makes everything that a decision depends on enqueue the TaskRuns that wait.
func (c *Controller) watch(ctx context.Context) error {
	_, err := c.pods.informer.AddEventHandler(controller.HandleAll(func(item any) {
		if pod, ok := item.(*corev1.Pod); ok && isHeld(pod) {
			if taskRun, ok := taskRunOf(pod); ok {
				c.turns.Add(taskRun, turns.Changed)
			}
		}
	}))
	c.Changes(func(namespace string) {
		c.enqueueAll(func(key types.NamespacedName) bool { return namespace == "" || key.Namespace == namespace })
	})
	c.ModesChanged(func() { c.onModes(ctx) })
	return errors.Join(err,
		c.Handlers.Add(taskruninformer.Get(ctx).Informer(), controller.HandleAll(c.onTaskRun)),
		c.Handlers.Add(pipelineruninformer.Get(ctx).Informer(), controller.HandleAll(c.onPipelineRun)),
		c.Handlers.Add(taskruninformer.Get(ctx).Informer(), c.onVerdict(ctx)),
		c.Handlers.Add(pipelineruninformer.Get(ctx).Informer(), c.onVerdict(ctx)),
		c.Watched.Add(c.Watched.Namespaces().Informer(), controller.HandleAll(func(item any) { c.onNamespace(ctx, item) })),
	)
}

// onTaskRun enqueues a TaskRun that waits for a decision.
func (c *Controller) onTaskRun(item any) {
	tr, ok := item.(*v1.TaskRun)
	switch {
	case !ok:
	case len(c.pods.of(keyOf(tr))) > 0 || c.wantsWarning(tr):
		c.turns.Add(keyOf(tr), turns.Changed)
	case c.starts(tr): // its Pod should be in the cache soon
		c.enqueueAfter(keyOf(tr), unseen)
	}
}

func (c *Controller) onPipelineRun(item any) {
	pr, ok := item.(*v1.PipelineRun)
	if !ok {
		return
	}
	for _, child := range pr.Status.ChildReferences {
		name := types.NamespacedName{Namespace: pr.Namespace, Name: child.Name}
		if len(onlyHeld(c.pods.of(name))) > 0 {
			c.turns.Add(name, turns.Changed)
		}
	}
}

func (c *Controller) onNamespace(ctx context.Context, item any) {
	ns, ok := item.(*corev1.Namespace)
	if !ok || ns.Name == v1alpha1.GateProbeNamespace { // which always has the label
		return
	}
	switch c.Modes.ModeOf(ns.Labels) {
	case v1alpha1.VerifyEnforce:
		c.pods.start(ctx, c.Rights)
		c.onTaskRunsOf(ns.Name)
	case v1alpha1.VerifyWarn:
		c.onTaskRunsOf(ns.Name)
	}
	c.enqueueAll(func(key types.NamespacedName) bool { return key.Namespace == ns.Name })
}

// onModes looks at all namespaces after a change of the policies for the whole cluster.
func (c *Controller) onModes(ctx context.Context) {
	found, err := c.namespaces.List(labels.Everything())
	if err != nil {
		return // not possible: the lister reads from a cache
	}
	wanted := false
	for _, ns := range found {
		wanted = wanted || ns.Name != v1alpha1.GateProbeNamespace && c.Modes.ModeOf(ns.Labels) == v1alpha1.VerifyEnforce
	}
	if wanted {
		c.pods.start(ctx, c.Rights)
	}
	c.onTaskRunsOf(metav1.NamespaceAll)
	c.enqueueAll(func(types.NamespacedName) bool { return true })
}

// onTaskRunsOf looks at the TaskRuns of a namespace, or of all namespaces if it is empty,
// that arrived before the label of their namespace, or before this replica became leader.
func (c *Controller) onTaskRunsOf(namespace string) {
	found, err := c.taskRuns.TaskRuns(namespace).List(labels.Everything())
	if err != nil {
		return // not possible: the lister reads from a cache
	}
	for _, tr := range found {
		c.onTaskRun(tr)
	}
}

// watchLeftOver watches Pods if one is held although no namespace has the label.
func (c *Controller) watchLeftOver(ctx context.Context) {
	held, err := c.pods.anyHeld(ctx)
	if apierrors.IsForbidden(err) {
		return // nothing could be released either; reported once a namespace has the label
	}
	if err != nil && ctx.Err() == nil {
		logging.FromContext(ctx).Infow("Cannot look for held Pods, they stay held until a namespace has the label "+v1alpha1.VerifyLabel, zap.Error(err))
	}
	if held {
		c.pods.start(ctx, c.Rights)
	}
}

func keyOf(tr *v1.TaskRun) types.NamespacedName {
	return types.NamespacedName{Namespace: tr.Namespace, Name: tr.Name}
}
