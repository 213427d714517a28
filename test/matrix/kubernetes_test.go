// SPDX-License-Identifier: Apache-2.0

//go:build matrix

package matrix

import (
	"context"
	"fmt"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// kubernetesWithoutPolicies has no MutatingAdmissionPolicies.
const kubernetesWithoutPolicies = "v1.33.13"

// On a Kubernetes without MutatingAdmissionPolicies, everything of config/ but
// config/admission works: resources are signed and Tekton enforces the signatures.
func TestOlderKubernetes_RunsOnlySignedTasks(t *testing.T) {
	e := start(t, harness.Releases{Kubernetes: kubernetesWithoutPolicies})
	served, err := e.RunKubectl(t.Context(), "", "api-resources", "--api-group", "admissionregistration.k8s.io", "-o", "name")
	e.check(err)
	if strings.Contains(served, "mutatingadmissionpolicies") || !strings.Contains(served, "validatingadmissionpolicies") {
		t.Fatalf("the API server serves %s, want no MutatingAdmissionPolicies", served)
	}
	ns := e.namespace()
	e.createTask(ns, "build")
	e.waitSigned(ns, "build", "")
	run := e.run(ns, "build")
	e.expectAccepted(run)
	e.expectPassed(run)
	e.tampered(ns, "tampered", e.expectRefused)
}

// The webhook does there what the policies of config/admission do on newer ones, and records
// requesters.
func TestOlderKubernetes_UsesTheWebhook(t *testing.T) {
	e := start(t, harness.Releases{Kubernetes: kubernetesWithoutPolicies})
	settings := harness.SignAll()
	settings["trustedresources.requester"] = "required"
	e.check(e.Configure(t.Context(), settings))
	webhook, err := e.InstallWebhook(t.Context()) // waits until local references are rewritten
	if webhook != nil {
		t.Cleanup(func() {
			if err := webhook.Remove(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	e.check(err)
	ns := e.namespace()
	attempts := 0
	e.eventually(func() error {
		attempts++
		name := fmt.Sprintf("probe-%d", attempts)
		e.createTask(ns, name) // by an administrator, who has every verb
		probe, err := e.Tekton.TektonV1().Tasks(ns).Get(t.Context(), name, metav1.GetOptions{})
		if err == nil && probe.Annotations[v1alpha1.RequestedByAnnotation] == "" {
			err = fmt.Errorf("Task %s names no requester", name)
		}
		return err
	})
	e.createTask(ns, "build")
	e.waitSigned(ns, "build", "")
	run, err := e.RunLocalTask(t.Context(), ns, "build", soon)
	e.check(err)
	if ref := run.Spec.TaskRef; ref.Resolver != "cluster" {
		t.Errorf("the reference is %+v, want one to the cluster resolver", ref)
	}
	e.expectAccepted(run)

	// Forged by a user without the verb, in a namespace in which the webhook is not called.
	forged := &v1.Task{ObjectMeta: metav1.ObjectMeta{Name: "forged", Annotations: map[string]string{v1alpha1.RequestedByAnnotation: "somebody"}}}
	forged.Spec.Steps = []v1.Step{{Name: "s", Image: "alpine", Script: "echo"}}
	if _, err := e.Tekton.TektonV1().Tasks("default").Create(t.Context(), forged, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a forged requester: got %v, want a refusal", err)
	}

	_, err = e.RunKubectl(t.Context(), "", "label", "namespace", ns, v1alpha1.VerifyLabel+"="+v1alpha1.VerifyEnforce)
	e.check(err)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "x-", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "tekton.dev/v1", Kind: "TaskRun", Name: "x", UID: "x", Controller: new(true)},
		}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "alpine"}}},
	}
	e.eventually(func() error { // the label is in force
		made, err := e.Kube.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && len(made.Spec.SchedulingGates) != 1 {
			err = fmt.Errorf("the Pod of a TaskRun has the gates %v", made.Spec.SchedulingGates)
		}
		return err
	})
}
