// SPDX-License-Identifier: Apache-2.0

package gating

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/attestation"
	"github.com/trusted-resources/chains-extension/pkg/gate"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// maxStatusMessage bounds the message in a TaskRun, in bytes. Tekton repeats it in the
// condition.
const maxStatusMessage = 1 << 10

type jsonPatch struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// release starts a Pod whose TaskRun is verified.
func (c *Controller) release(ctx context.Context, tr *v1.TaskRun, pod *corev1.Pod, d gate.Decision) error {
	return c.removeGate(ctx, tr, pod, attestation.Gate{Decision: attestation.GateReleased, Policies: d.Policies},
		observe.GateReleased{TaskRun: reference(tr), Pod: pod.Name, Warnings: d.Warnings, Waited: waited(pod)})
}

// open starts a Pod that was held before its namespace lost the label.
func (c *Controller) open(ctx context.Context, tr *v1.TaskRun, pod *corev1.Pod) error {
	return c.removeGate(ctx, tr, pod, attestation.Gate{Decision: attestation.GateOpened},
		observe.GateOpened{TaskRun: reference(tr), Pod: pod.Name, Waited: waited(pod)})
}

// removeGate removes our gate from a Pod. The API server refuses the patch if the Pod
// is another one, or if the gate is not where it was.
func (c *Controller) removeGate(ctx context.Context, tr *v1.TaskRun, pod *corev1.Pod, made attestation.Gate, fact observe.Fact) error {
	at := fmt.Sprintf("/spec/schedulingGates/%d", gateAt(pod))
	patch, err := json.Marshal([]jsonPatch{
		{"test", "/metadata/uid", pod.UID},
		{"test", at, corev1.PodSchedulingGate{Name: v1alpha1.SchedulingGate}},
		{Op: "remove", Path: at},
	})
	if err != nil {
		return err
	}
	_, err = c.Kube.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: v1alpha1.Group})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("releasing Pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	c.Decisions.add(tr, pod.UID, pod.Name, made)
	c.Emitter.Emit(ctx, fact)
	return nil
}

// refuse cancels a TaskRun. Tekton then deletes the Pod, and does not try again.
func (c *Controller) refuse(ctx context.Context, tr *v1.TaskRun, pod *corev1.Pod, why string) error {
	message := bounded("Refused by " + v1alpha1.Group + ": " + why)
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": tr.UID}, // the API server refuses the patch for another run
		"spec":     map[string]any{"status": v1.TaskRunSpecStatusCancelled, "statusMessage": message},
	})
	if err != nil {
		return err
	}
	_, err = c.Tekton.TektonV1().TaskRuns(tr.Namespace).Patch(ctx, tr.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: v1alpha1.Group})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cancelling TaskRun %s/%s: %w", tr.Namespace, tr.Name, err)
	}
	c.Decisions.add(tr, pod.UID, pod.Name, attestation.Gate{Decision: attestation.GateRefused})
	c.Emitter.Emit(ctx, observe.GateRefused{TaskRun: reference(tr), Pod: pod.Name, Why: why, Waited: waited(pod)})
	return nil
}

// waited is the time since the creation of a Pod, which the API server gives in full seconds.
func waited(pod *corev1.Pod) time.Duration { return time.Since(pod.CreationTimestamp.Time) }

func bounded(message string) string {
	if len(message) <= maxStatusMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxStatusMessage], "")
}
