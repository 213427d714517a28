// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// The API server admits the Pods of the Deployment into their namespace, whose labels
// ask for the Pod Security level "restricted", and refuses Pods with more rights.
func TestDeployment_FulfilsPodSecurity(t *testing.T) {
	e := newEnv(t)
	e.applyDeployment()
	patched := e.patchForFulcio()
	for name, tc := range map[string]struct {
		change  func(*corev1.Pod)
		refused string
	}{
		"as it is": {change: func(pod *corev1.Pod) {
			pod.Spec.Volumes = slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == oidcVolume })
			mounts := pod.Spec.Containers[0].VolumeMounts
			pod.Spec.Containers[0].VolumeMounts = slices.DeleteFunc(mounts, func(m corev1.VolumeMount) bool { return m.Name == oidcVolume })
		}},
		"with the token for Fulcio": {change: func(*corev1.Pod) {}},
		"as root": {
			change: func(pod *corev1.Pod) {
				pod.Spec.SecurityContext.RunAsUser, pod.Spec.SecurityContext.RunAsNonRoot = new(int64(0)), nil
			},
			refused: "runAsNonRoot",
		},
		"privileged": {
			change: func(pod *corev1.Pod) {
				pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
			},
			refused: "privileged",
		},
		"with a directory of the host": {
			change: func(pod *corev1.Pod) {
				host := corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}
				pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "host", VolumeSource: host})
			},
			refused: "hostPath",
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: harness.SystemNamespace, GenerateName: "pod-", Labels: patched.Spec.Template.Labels},
				Spec:       *patched.Spec.Template.Spec.DeepCopy(),
			}
			tc.change(pod)
			_, err := cluster.Kube.CoreV1().Pods(pod.Namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			switch {
			case tc.refused == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.refused != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), tc.refused)):
				t.Errorf("got %v, want a refusal because of %s", err, tc.refused)
			}
		})
	}
}

// The Pods of a stock Chains do not fulfil the level "restricted", but "baseline". The
// guide tells users of both so.
func TestDeployment_OfStockChainsNeedsAnotherLevel(t *testing.T) {
	e := newEnv(t)
	dir, err := harness.ModuleDir(t.Context(), harness.ModuleChains)
	e.check(err)
	manifest, err := cluster.RunKubectl(t.Context(), "", "create", "--dry-run=client", "-o", "json", "--selector", "app.kubernetes.io/component=controller",
		"-f", filepath.Join(dir, "config", "100-deployment.yaml"))
	e.check(err)
	var stock appsv1.Deployment
	e.check(json.Unmarshal([]byte(manifest), &stock))
	baseline := e.namespaceLabelled(map[string]string{"pod-security.kubernetes.io/enforce": "baseline"})
	for namespace, admitted := range map[string]bool{harness.SystemNamespace: false, baseline: true} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "stock-"}, Spec: *stock.Spec.Template.Spec.DeepCopy()}
		pod.Spec.ServiceAccountName = "default"
		_, err := cluster.Kube.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if (err == nil) != admitted {
			t.Errorf("namespace %s: got %v, want admitted: %v", namespace, err, admitted)
		}
	}
}

// To apply config/ again, for example in an upgrade, keeps the token for Fulcio.
func TestDeployment_KeepsTheTokenForFulcio(t *testing.T) {
	e := newEnv(t)
	e.applyDeployment()
	e.patchForFulcio()
	e.applyDeployment()
	if d := e.deployment(); !hasVolume(d, oidcVolume) || !hasVolume(d, "signing-secrets") {
		t.Errorf("got volumes %+v", d.Spec.Template.Spec.Volumes)
	}
}

// An installation whose Deployment mounted the token always loses it with this
// release: the guide says how to keep it.
func TestDeployment_DropsTheTokenOfEarlierReleases(t *testing.T) {
	e := newEnv(t)
	e.applyDeployment()
	d := e.patchForFulcio()
	earlier, err := json.Marshal(appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: d.Name, Labels: d.Labels},
		Spec:       d.Spec,
	})
	e.check(err)
	e.kubectlApply(string(earlier))
	e.applyDeployment()
	if d := e.deployment(); hasVolume(d, oidcVolume) {
		t.Errorf("got volumes %+v", d.Spec.Template.Spec.Volumes)
	}
}

const oidcVolume = "oidc-info"

// applyDeployment applies the Deployment of config/ until the test ends. No part of
// this cluster makes Pods of it.
func (e *env) applyDeployment() {
	e.t.Helper()
	_, err := cluster.RunKubectl(e.t.Context(), "", "apply", "--selector", "app.kubernetes.io/component=controller",
		"-f", filepath.Join(harness.Root(), "config", "400-controller.yaml"))
	e.check(err)
	e.cleanup(func() error {
		deployments := cluster.Kube.AppsV1().Deployments(harness.SystemNamespace)
		return ignoreNotFound(deployments.Delete(cleanupContext(), harness.ServiceAccount, metav1.DeleteOptions{}))
	})
}

// patchForFulcio does what docs/install.md says, and returns the Deployment.
func (e *env) patchForFulcio() *appsv1.Deployment {
	e.t.Helper()
	_, err := cluster.RunKubectl(e.t.Context(), "", "-n", harness.SystemNamespace, "patch", "deployment", harness.ServiceAccount,
		"--patch-file", filepath.Join(harness.Root(), "config", "fulcio", "deployment-patch.yaml"))
	e.check(err)
	d := e.deployment()
	if !hasVolume(d, oidcVolume) {
		e.t.Fatalf("the patch has added no volume %s", oidcVolume)
	}
	return d
}

func (e *env) deployment() *appsv1.Deployment {
	e.t.Helper()
	d, err := cluster.Kube.AppsV1().Deployments(harness.SystemNamespace).Get(e.t.Context(), harness.ServiceAccount, metav1.GetOptions{})
	e.check(err)
	return d
}

func hasVolume(d *appsv1.Deployment, name string) bool {
	return slices.ContainsFunc(d.Spec.Template.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
}
