// SPDX-License-Identifier: Apache-2.0

// Package config has tests of the manifests in this directory that need no cluster.
package config

import (
	"bytes"
	"os"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// Go reads GOMEMLIMIT with units that are those of Kubernetes with an additional B.
// Go must begin to collect garbage before the kernel ends the process, and must not
// begin so early that the limit is never used.
func TestDeployment_LimitsGoBelowTheContainer(t *testing.T) {
	container := deployment(t).Spec.Template.Spec.Containers[0]
	limit := container.Resources.Limits.Memory()
	var goLimit resource.Quantity
	for _, variable := range container.Env {
		if variable.Name == "GOMEMLIMIT" {
			value, found := strings.CutSuffix(variable.Value, "B")
			if !found {
				t.Fatalf("GOMEMLIMIT is %q, expected a number and a unit such as MiB", variable.Value)
			}
			goLimit = resource.MustParse(value)
		}
	}
	if share := float64(goLimit.Value()) / float64(limit.Value()); share < 0.8 || share > 0.95 {
		t.Errorf("GOMEMLIMIT is %s, which is %.0f %% of limits.memory %s, expected 80 to 95 %%", goLimit.String(), 100*share, limit)
	}
	if request := container.Resources.Requests.Memory(); request.Cmp(*limit) > 0 {
		t.Errorf("requests.memory %s is above limits.memory %s", request, limit)
	}
	if cpu, found := container.Resources.Limits[corev1.ResourceCPU]; found {
		t.Errorf("limits.cpu is %s, expected none: a throttled controller misses the renewal of its lease", cpu.String())
	}
}

// The kubelet gives files to root and to fsGroup, and adds only the permission of the
// group.
func TestDeployment_ReadsItsKeyWithoutRoot(t *testing.T) {
	pod := deployment(t).Spec.Template.Spec
	for _, volume := range pod.Volumes {
		if volume.Name != "signing-secrets" {
			continue
		}
		if mode := volume.Secret.DefaultMode; mode == nil || *mode != 0o400 {
			t.Errorf("the mode of the signing secret is %v, expected 0400", mode)
		}
		context := pod.SecurityContext
		if context.FSGroup == nil || context.RunAsGroup == nil || *context.FSGroup != *context.RunAsGroup {
			t.Errorf("the files belong to group %v and the process to %v, expected the same group", context.FSGroup, context.RunAsGroup)
		}
		return
	}
	t.Error("no volume signing-secrets")
}

func TestDeployment_HasNoTokenForFulcio(t *testing.T) {
	for _, volume := range deployment(t).Spec.Template.Spec.Volumes {
		if volume.Projected != nil {
			t.Errorf("volume %s has a projected token; it belongs into config/fulcio", volume.Name)
		}
	}
}

func TestDisruptionBudget_SelectsTheReplicas(t *testing.T) {
	var budget policyv1.PodDisruptionBudget
	decode(t, "PodDisruptionBudget", &budget)
	selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
	if err != nil {
		t.Fatal(err)
	}
	if pod := deployment(t).Spec.Template.Labels; !selector.Matches(labels.Set(pod)) {
		t.Errorf("selector %s does not match the labels of the Pods %v", selector, pod)
	}
}

func deployment(t *testing.T) *appsv1.Deployment {
	t.Helper()
	var d appsv1.Deployment
	decode(t, "Deployment", &d)
	return &d
}

// decode reads the first object of a kind in 400-controller.yaml. Unknown fields are
// an error.
func decode(t *testing.T, kind string, into any) {
	t.Helper()
	content, err := os.ReadFile("400-controller.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for document := range bytes.SplitSeq(content, []byte("\n---\n")) {
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal(document, &meta); err != nil {
			t.Fatal(err)
		}
		if meta.Kind != kind {
			continue
		}
		if err := yaml.UnmarshalStrict(document, into); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no %s in 400-controller.yaml", kind)
}
