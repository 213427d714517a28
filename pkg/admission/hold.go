// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"slices"
	"strings"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// MustWait reports whether a new Pod needs a scheduling gate: it runs the steps of a
// TaskRun and has no gate of ours yet. Whoever creates a Pod chooses its labels, but a
// Pod without a controller does not count as that of a TaskRun anywhere in Tekton.
func MustWait(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil || owner.Kind != pipeline.TaskRunControllerName || !strings.HasPrefix(owner.APIVersion, pipeline.GroupName+"/") {
		return false
	}
	return !slices.ContainsFunc(pod.Spec.SchedulingGates, func(gate corev1.PodSchedulingGate) bool {
		return gate.Name == v1alpha1.SchedulingGate
	})
}
