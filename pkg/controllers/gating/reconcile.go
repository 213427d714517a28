// SPDX-License-Identifier: Apache-2.0

package gating

import (
	"context"
	"fmt"
	"slices"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/controller"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/gate"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// reconcile decides about the Pod of a TaskRun, unless it was decided. A Pod can be held
// in a namespace with VerifyWarn: the label may have been another before.
func (c *Controller) reconcile(ctx context.Context, tr *v1.TaskRun) error {
	if tr.IsDone() || tr.IsCancelled() { // Tekton deletes the Pod
		return c.warn(ctx, tr)
	}
	held, err := c.held(ctx, tr)
	if err != nil {
		return err
	}
	for _, pod := range held {
		if c.Decisions.has(pod.UID) || pod.DeletionTimestamp != nil {
			continue
		}
		if err := c.decideAndAct(ctx, tr, pod); err != nil {
			return err
		}
	}
	return c.warn(ctx, tr)
}

// held returns the Pods of a TaskRun that are held. Pods without Tekton's label are not
// watched, so the Pod that the TaskRun has recorded is read if it does not start.
func (c *Controller) held(ctx context.Context, tr *v1.TaskRun) ([]*corev1.Pod, error) {
	if found := c.pods.of(keyOf(tr)); len(found) > 0 {
		return onlyHeld(found), nil
	}
	if !c.starts(tr) {
		return nil, nil
	}
	return c.pods.read(ctx, tr.Namespace, tr.Status.PodName)
}

// starts reports whether the gate may hold the Pod that a TaskRun has recorded: no step
// has a state. Tekton lists some steps before they have one.
func (c *Controller) starts(tr *v1.TaskRun) bool {
	hasState := func(step v1.StepState) bool { return step.ContainerState != corev1.ContainerState{} }
	return c.mode(tr.Namespace) == v1alpha1.VerifyEnforce && tr.Status.PodName != "" && !tr.IsDone() &&
		!slices.ContainsFunc(tr.Status.Steps, hasState) && !c.Decisions.knows(tr)
}

// mode returns what happens to the runs of a namespace, as the caches have it.
func (c *Controller) mode(namespace string) string {
	ns, err := c.namespaces.Get(namespace)
	if err != nil {
		return ""
	}
	return c.Modes.ModeOf(ns.Labels)
}

// isOpened reports whether the API server has no enforcement for a namespace any more. The
// caches can be older than what the Pod was held for.
func (c *Controller) isOpened(ctx context.Context, namespace string) (bool, error) {
	if c.mode(namespace) == v1alpha1.VerifyEnforce {
		return false, nil
	}
	mode, err := c.Modes.ModeNow(ctx, namespace)
	return err == nil && mode != v1alpha1.VerifyEnforce, err
}

func (c *Controller) decideAndAct(ctx context.Context, tr *v1.TaskRun, pod *corev1.Pod) error {
	opened, err := c.isOpened(ctx, tr.Namespace)
	if err != nil {
		return err
	}
	if opened {
		return c.open(ctx, tr, pod)
	}
	switch d := c.decide(ctx, tr, pod); d.Action {
	case gate.Release:
		err = c.release(ctx, tr, pod, d)
	case gate.Refuse:
		err = c.refuse(ctx, tr, pod, d.Message)
	case gate.Wait:
		return c.wait(ctx, tr, string(pod.UID), d.Message)
	default:
		return fmt.Errorf("action %q is not known", d.Action)
	}
	if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) { // by a policy or a webhook, until somebody changes it
		return c.wait(ctx, tr, string(pod.UID), err.Error())
	}
	return err
}

// decide returns the decision about the Pod of a TaskRun.
func (c *Controller) decide(ctx context.Context, tr *v1.TaskRun, pod *corev1.Pod) gate.Decision {
	if owner := metav1.GetControllerOf(pod); owner == nil || owner.UID != tr.UID {
		return gate.Decision{Action: gate.Wait, Message: fmt.Sprintf("Pod %s is controlled by something else than this TaskRun", pod.Name)}
	}
	if tr.Status.PodName != pod.Name {
		return gate.Decision{Action: gate.Wait, Message: fmt.Sprintf("Tekton has not recorded Pod %s as the Pod of this TaskRun", pod.Name)}
	}
	return c.judge(ctx, tr)
}

// wait looks at a TaskRun again after a delay that grows. It reports what the TaskRun
// waits for if that was so a delay before.
func (c *Controller) wait(ctx context.Context, tr *v1.TaskRun, id, why string) error {
	c.delays.GC()
	now, before := c.delays.Clock.Now(), c.delays.Get(id)
	if !c.delays.IsInBackOffSinceUpdate(id, now) { // otherwise something has changed meanwhile
		c.delays.Next(id, now)
		if before > 0 {
			c.Emitter.Emit(ctx, observe.GateWaits{TaskRun: reference(tr), Why: why})
		}
	}
	return controller.NewRequeueAfter(c.delays.Get(id))
}

func reference(tr *v1.TaskRun) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: v1.SchemeGroupVersion.String(), Kind: pipeline.TaskRunControllerName,
		Namespace: tr.Namespace, Name: tr.Name, UID: tr.UID, ResourceVersion: tr.ResourceVersion,
	}
}
