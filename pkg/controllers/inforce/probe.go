// SPDX-License-Identifier: Apache-2.0

package inforce

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	// holdProbe is the only name with which the guard lets our controller create the
	// Pod of a TaskRun, in a dry run.
	holdProbe = "hold-probe"
	// guardProbe is the name of a Pod that the guard must refuse.
	guardProbe = "guard-probe"
)

const (
	interval = 10 * time.Second
	timeout  = 5 * time.Second // of one question
)

// Pods creates Pods in v1alpha1.GateProbeNamespace. config/205-rbac-gates.yaml gives our service
// account the right to create Pods there and nowhere else.
type Pods interface {
	Create(ctx context.Context, pod *corev1.Pod, o metav1.CreateOptions) (*corev1.Pod, error)
}

// Observer gets each State.
type Observer interface {
	// Wanted reports whether somebody wants to know the State now.
	Wanted() bool
	Observed(ctx context.Context, s State)
}

// Watch asks the API server again and again until the context ends, while the observer
// wants to know.
func Watch(ctx context.Context, pods Pods, observer Observer) {
	_ = wait.PollUntilContextCancel(ctx, interval, true, func(ctx context.Context) (bool, error) {
		if !observer.Wanted() {
			return false, nil
		}
		if s := Look(ctx, pods); ctx.Err() == nil {
			observer.Observed(ctx, s)
		}
		return false, nil
	})
}

// Look asks the API server once.
func Look(ctx context.Context, pods Pods) State {
	return judge(ask(ctx, pods, holdProbe), ask(ctx, pods, guardProbe))
}

func ask(ctx context.Context, pods Pods, name string) answer {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pod, err := pods.Create(ctx, podOfTaskRun(name), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return answer{pod, err}
}

// podOfTaskRun returns a Pod as Tekton would create it for a TaskRun. The Pod fulfils
// the Pod Security level "restricted" of the namespace.
func podOfTaskRun(name string) *corev1.Pod {
	yes, no := true, false
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{"tekton.dev/taskRun": name},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "tekton.dev/v1", Kind: "TaskRun", Name: name, UID: "probe", Controller: &yes}},
		},
		Spec: corev1.PodSpec{
			RestartPolicy:                corev1.RestartPolicyNever,
			AutomountServiceAccountToken: &no,
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: &yes, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "none", Image: "none.invalid/none",
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
}
