// SPDX-License-Identifier: Apache-2.0

package tekton

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// koPrefix is the prefix of an image that is built from a Go package.
const koPrefix = "ko://"

// Workload describes how a Deployment runs its only container.
type Workload struct {
	Namespace, ServiceAccount string
	Args                      []string
	Env                       []string
}

// newWorkload returns the workload of a Deployment and the Go package of its image.
func newWorkload(obj *unstructured.Unstructured) (pkg string, w Workload, err error) {
	var deployment appsv1.Deployment
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, &deployment); err != nil {
		return "", w, fmt.Errorf("manifest of Deployment %s: %w", obj.GetName(), err)
	}
	pod := deployment.Spec.Template.Spec
	if n := len(pod.Containers); n != 1 {
		return "", w, fmt.Errorf("manifest of Deployment %s has %d containers, want 1", obj.GetName(), n)
	}
	container := pod.Containers[0]
	w = Workload{Namespace: deployment.Namespace, ServiceAccount: pod.ServiceAccountName}
	for _, arg := range container.Args {
		// Images of helper programs are never pulled, but must be valid image references.
		w.Args = append(w.Args, strings.TrimPrefix(arg, koPrefix))
	}
	for _, env := range container.Env {
		value, err := envValue(env, deployment.Namespace)
		if err != nil {
			return "", w, fmt.Errorf("manifest of Deployment %s: %w", obj.GetName(), err)
		}
		if !onVolume(value, container.VolumeMounts) {
			w.Env = append(w.Env, env.Name+"="+value)
		}
	}
	return strings.TrimPrefix(container.Image, koPrefix), w, nil
}

func envValue(env corev1.EnvVar, namespace string) (string, error) {
	switch from := env.ValueFrom; {
	case from == nil:
		return env.Value, nil
	case from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.namespace":
		return namespace, nil
	default:
		return "", fmt.Errorf("variable %s takes its value from %v, which does not exist outside of a pod", env.Name, from)
	}
}

// onVolume reports whether a value is the name of a file on a volume, which does not exist outside of a pod.
func onVolume(value string, mounts []corev1.VolumeMount) bool {
	for _, m := range mounts {
		if strings.HasPrefix(value, m.MountPath+"/") {
			return true
		}
	}
	return false
}
