// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// The API server accepts every object of every overlay, without unknown fields.
func TestOverlays_AreAccepted(t *testing.T) {
	e := newEnv(t)
	e.existingNamespace("openshift-pipelines")
	for _, dir := range []string{
		"config", "config/admission", "kustomize/minimal", "kustomize/ha", "kustomize/tekton-pipelines", "kustomize/openshift-pipelines",
	} {
		t.Run(dir, func(t *testing.T) {
			if err := serverDryRun(t, rendered(t, dir)); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("network policy", func(t *testing.T) {
		policy := filepath.Join(harness.Root(), "kustomize", "components", "network-policy", "network-policy.yaml")
		if out, err := cluster.RunKubectl(t.Context(), "", "apply", "--dry-run=server", "-f", policy); err != nil {
			t.Error(out, err)
		}
	})
	t.Run("an unknown field is refused", func(t *testing.T) {
		broken := strings.Replace(rendered(t, "kustomize/ha"), "whenUnsatisfiable:", "whenUnsatisfied:", 1)
		if err := serverDryRun(t, broken); err == nil {
			t.Error("accepted")
		}
	})
}

// OpenShift chooses the user. Without one, the Pod still is not allowed to be root.
func TestOverlayOpenShift_FulfilsPodSecurity(t *testing.T) {
	e := newEnv(t)
	restricted := e.namespaceLabelled(map[string]string{"pod-security.kubernetes.io/enforce": "restricted"})
	var d appsv1.Deployment
	for document := range strings.SplitSeq(rendered(t, "kustomize/openshift-pipelines"), "\n---\n") {
		if strings.Contains(document, "\nkind: Deployment\n") {
			e.check(yaml.UnmarshalStrict([]byte(document), &d))
		}
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "pod-"}, Spec: d.Spec.Template.Spec}
	pod.Spec.ServiceAccountName = "default"
	dryRun := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	if _, err := cluster.Kube.CoreV1().Pods(restricted).Create(t.Context(), pod, dryRun); err != nil {
		t.Errorf("refused: %v", err)
	}
	pod.Spec.SecurityContext.RunAsNonRoot = nil
	if _, err := cluster.Kube.CoreV1().Pods(restricted).Create(t.Context(), pod, dryRun); !apierrors.IsForbidden(err) {
		t.Errorf("without runAsNonRoot: got %v, want a refusal", err)
	}
}

// The controller is limited in whatever namespace it is installed. Other accounts are
// not.
func TestServiceAccount_IsLimitedInEveryNamespace(t *testing.T) {
	e := newEnv(t)
	ns := e.namespaceLabelled(nil)
	e.createLimited(ns)
	e.waitLimited(ns, e.asServiceAccount())
	for user, limited := range map[string]bool{
		"system:serviceaccount:tekton-pipelines:tekton-chains-controller":    true,
		"system:serviceaccount:openshift-pipelines:tekton-chains-controller": true,
		"system:serviceaccount:tekton-pipelines:my-tekton-chains-controller": false,
		"system:serviceaccount:tekton-chains-controller:default":             false,
	} {
		config := rest.CopyConfig(cluster.Admin)
		config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:masters"}}
		client, err := dynamic.NewForConfig(config)
		e.check(err)
		_, err = client.Resource(resource.Task.GroupVersionResource()).Namespace(ns).Patch(t.Context(), "limited",
			types.MergePatchType, []byte(`{"metadata":{"labels":{"changed":"yes"}}}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
		if limited {
			expectLimited(t, user, err, limitsOfResources)
		} else if err != nil {
			t.Errorf("%s: refused: %v", user, err)
		}
	}
}

// existingNamespace creates a namespace with a name until the test ends.
func (e *env) existingNamespace(name string) {
	e.t.Helper()
	namespaces := cluster.Kube.CoreV1().Namespaces()
	_, err := namespaces.Create(e.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	e.check(err)
	e.cleanup(func() error { return namespaces.Delete(cleanupContext(), name, metav1.DeleteOptions{}) })
}

// rendered returns what kubectl apply -k would apply.
func rendered(t *testing.T, dir string) string {
	t.Helper()
	out, err := cluster.RunKubectl(t.Context(), "", "kustomize", filepath.Join(harness.Root(), dir))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func serverDryRun(t *testing.T, manifests string) error {
	t.Helper()
	_, err := cluster.RunKubectl(t.Context(), manifests, "apply", "--server-side", "--force-conflicts", "--validate=strict", "--dry-run=server", "-f", "-")
	return err
}
