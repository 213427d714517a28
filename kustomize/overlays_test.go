// SPDX-License-Identifier: Apache-2.0

// Package kustomize has tests of the overlays in this directory that need kubectl, but no
// cluster. The tests on a cluster are in test/e2e.
package kustomize

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

const base = "../config"

// kubectl apply -k config installs the same files as kubectl apply -f config.
func TestBase_ListsAllManifests(t *testing.T) {
	for _, dir := range []string{base, filepath.Join(base, "webhook")} {
		content, err := os.ReadFile(filepath.Join(dir, "Kustomization"))
		if err != nil {
			t.Fatal(err)
		}
		var k struct{ Resources []string }
		if err := yaml.Unmarshal(content, &k); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		names := make([]string, 0, len(files))
		for _, file := range files {
			names = append(names, filepath.Base(file))
		}
		if !slices.Equal(k.Resources, names) {
			t.Errorf("%s/Kustomization has %v, the directory %v", dir, k.Resources, names)
		}
	}
}

// alone are the namespaces that stay as they are.
var alone = []string{v1alpha1.GateProbeNamespace, v1alpha1.CanaryNamespace}

func TestNamespaceOverlays_LeaveNothingInAnotherNamespace(t *testing.T) {
	for _, namespace := range []string{"tekton-pipelines", "openshift-pipelines"} {
		t.Run(namespace, func(t *testing.T) {
			objects := render(t, namespace)
			for _, obj := range objects {
				if found := leftovers(obj, namespace); len(found) > 0 {
					t.Errorf("%s %s: %v", obj.GetKind(), obj.GetName(), found)
				}
			}
			for _, obj := range objects {
				if obj.GetKind() == "Namespace" && !slices.Contains(alone, obj.GetName()) {
					t.Errorf("there is a Namespace %s; that of Tekton Pipelines belongs to Tekton Pipelines", obj.GetName())
				}
			}
		})
	}
}

// The base is not in the namespace of an overlay, so leftovers must find something.
func TestLeftovers_FindsTheNamespaceOfTheBase(t *testing.T) {
	for _, obj := range render(t, base) {
		if found := leftovers(obj, "openshift-pipelines"); len(found) == 0 && !unaware(obj) {
			t.Errorf("%s %s: nothing found", obj.GetKind(), obj.GetName())
		}
	}
}

func TestOpenShiftOverlay_AsksForNoUser(t *testing.T) {
	pod := deployment(t, render(t, "openshift-pipelines")).Spec.Template.Spec
	for _, container := range pod.Containers {
		if context := container.SecurityContext; context.RunAsUser != nil || context.RunAsGroup != nil {
			t.Errorf("a container asks for user %v and group %v", context.RunAsUser, context.RunAsGroup)
		}
	}
	got := pod.SecurityContext
	if got.RunAsUser != nil || got.RunAsGroup != nil || got.FSGroup != nil {
		t.Errorf("the Pod asks for user %v, group %v and fsGroup %v", got.RunAsUser, got.RunAsGroup, got.FSGroup)
	}
	if got.RunAsNonRoot == nil || !*got.RunAsNonRoot || got.SeccompProfile == nil {
		t.Errorf("the Pod may run as root or without seccomp: %+v", got)
	}
}

func TestHighAvailabilityOverlay_RequiresDifferentNodes(t *testing.T) {
	for overlay, want := range map[string]corev1.UnsatisfiableConstraintAction{base: corev1.ScheduleAnyway, "ha": corev1.DoNotSchedule} {
		for _, constraint := range deployment(t, render(t, overlay)).Spec.Template.Spec.TopologySpreadConstraints {
			if constraint.TopologyKey == corev1.LabelHostname && constraint.WhenUnsatisfiable != want {
				t.Errorf("%s: a node that has a replica already: %s, want %s", overlay, constraint.WhenUnsatisfiable, want)
			}
			if constraint.TopologyKey == corev1.LabelTopologyZone && constraint.WhenUnsatisfiable != corev1.ScheduleAnyway {
				t.Errorf("%s: a cluster without zones cannot run the controller", overlay)
			}
		}
	}
}

// Replicas that the spread does not count could all be on one node.
func TestTopologySpread_CountsTheReplicas(t *testing.T) {
	d := deployment(t, render(t, base))
	constraints := d.Spec.Template.Spec.TopologySpreadConstraints
	if len(constraints) != 2 {
		t.Fatalf("%d constraints, want one for nodes and one for zones", len(constraints))
	}
	for _, constraint := range constraints {
		for key, value := range constraint.LabelSelector.MatchLabels {
			if d.Spec.Template.Labels[key] != value {
				t.Errorf("the spread over %s counts Pods with %s=%s, the replicas have %q", constraint.TopologyKey, key, value, d.Spec.Template.Labels[key])
			}
		}
	}
}

func TestMinimalOverlay_HasOneReplica(t *testing.T) {
	objects := render(t, "minimal")
	if replicas := *deployment(t, objects).Spec.Replicas; replicas != 1 {
		t.Errorf("%d replicas, want 1", replicas)
	}
	if count(objects, "PodDisruptionBudget") > 0 {
		t.Error("there is a PodDisruptionBudget for one replica")
	}
}

// render builds a kustomization as users do.
func render(t *testing.T, dir string) []*unstructured.Unstructured {
	t.Helper()
	kubectl := filepath.Join("..", ".localcluster", "bin", "kubectl")
	out, err := exec.CommandContext(t.Context(), kubectl, "kustomize", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl kustomize %s: %v (make binaries builds kubectl): %s", dir, err, out)
	}
	var objects []*unstructured.Unstructured
	for document := range strings.SplitSeq(string(out), "\n---\n") {
		obj := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), obj); err != nil {
			t.Fatal(err)
		}
		objects = append(objects, obj)
	}
	return objects
}

// clusterScoped are the kinds of config/ without a namespace.
var clusterScoped = []string{"ClusterRole", "CustomResourceDefinition", "ClusterRoleBinding", "Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}

// unaware reports whether an object of the base is the same in all namespaces.
func unaware(obj *unstructured.Unstructured) bool {
	return aloneIn(obj) != "" && obj.GetKind() != "RoleBinding" ||
		slices.Contains([]string{"ClusterRole", "CustomResourceDefinition", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}, obj.GetKind())
}

// aloneIn returns the namespace of an object that stays where it is; empty for others.
func aloneIn(obj *unstructured.Unstructured) string {
	for _, namespace := range alone {
		if obj.GetName() == namespace {
			return namespace
		}
	}
	if obj.GetKind() == "ResourceQuota" {
		return v1alpha1.CanaryNamespace
	}
	return ""
}

// leftovers returns where an object refers to another namespace than the given one.
func leftovers(obj *unstructured.Unstructured, namespace string) []string {
	var found []string
	want := cmp.Or(aloneIn(obj), namespace)
	if slices.Contains(clusterScoped, obj.GetKind()) {
		want = ""
	}
	if got := obj.GetNamespace(); got != want {
		found = append(found, fmt.Sprintf("namespace %q, want %q", got, want))
	}
	walk("", obj.Object, func(path, value string) {
		switch {
		case path == ".metadata.namespace", strings.HasSuffix(path, ".app.kubernetes.io/part-of"):
		case strings.HasSuffix(path, ".namespace") && value != namespace,
			value == "tekton-chains",
			strings.Contains(value, "serviceaccount:tekton-chains:"),
			strings.Contains(value, ".tekton-chains.svc"):
			found = append(found, path+": "+value)
		}
	})
	return found
}

func walk(path string, value any, visit func(path, value string)) {
	switch v := value.(type) {
	case map[string]any:
		for key, field := range v {
			walk(path+"."+key, field, visit)
		}
	case []any:
		for i, item := range v {
			walk(fmt.Sprintf("%s[%d]", path, i), item, visit)
		}
	case string:
		visit(path, v)
	}
}

func deployment(t *testing.T, objects []*unstructured.Unstructured) *appsv1.Deployment {
	t.Helper()
	i := slices.IndexFunc(objects, func(obj *unstructured.Unstructured) bool { return obj.GetKind() == "Deployment" })
	if i < 0 {
		t.Fatal("no Deployment")
	}
	d := &appsv1.Deployment{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(objects[i].Object, d, true); err != nil {
		t.Fatal(err)
	}
	return d
}

func count(objects []*unstructured.Unstructured, kind string) int {
	n := 0
	for _, obj := range objects {
		if obj.GetKind() == kind {
			n++
		}
	}
	return n
}
