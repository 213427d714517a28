// SPDX-License-Identifier: Apache-2.0

//go:build realnode

package realnode

import (
	"context"
	"crypto"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// config is the directory of the manifests of a normal installation.
func config() string { return filepath.Join(harness.Root(), "config") }

const (
	deployment    = "tekton-chains-controller"
	signingSecret = "signing-secrets"
)

// installed is what the tests have installed: the manifests with the image, and the
// public key.
var installed struct {
	manifests string
	public    crypto.PublicKey
}

// install installs config/ with the image of this source tree, unless an earlier test has
// done so, with a key, and with the settings that sign everything. It waits until all
// replicas are ready.
func install(t *testing.T) env {
	t.Helper()
	e := env{t: t}
	if installed.public == nil {
		e.prepareSecret()
	}
	e.applyManifests()
	settings := harness.SignAll()
	settings["artifacts.oci.signer"] = "none" // there is no registry of products
	settings["artifacts.taskrun.format"] = "slsa/v2alpha4"
	settings["trustedresources.provenance.enabled"] = "true"
	e.check(cluster.Configure(t.Context(), settings))
	e.waitReady()
	return e
}

// prepareSecret creates the Secret before the Deployment, so that the Pods start with the
// key. Later changes take the kubelet a minute.
func (e env) prepareSecret() {
	e.t.Helper()
	secret, public, err := fixtures.CosignSecret()
	e.check(err)
	e.kubectl("apply", "-f", filepath.Join(config(), "100-namespace.yaml"))
	e.replaceSecret(secret)
	installed.public = public
}

func (e env) replaceSecret(data fixtures.Secret) {
	e.t.Helper()
	secrets := cluster.Kube.CoreV1().Secrets(harness.SystemNamespace)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: signingSecret}, Data: data}
	_, err := secrets.Update(e.t.Context(), secret, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = secrets.Create(e.t.Context(), secret, metav1.CreateOptions{})
	}
	e.check(err)
}

// applyManifests applies config/ as a user would, after ko has built the image.
func (e env) applyManifests() {
	e.t.Helper()
	if installed.manifests == "" {
		manifests, err := cluster.KoResolve(e.t.Context(), harness.Root(), "config/")
		e.check(err)
		installed.manifests = string(manifests)
	}
	_, err := cluster.RunKubectl(e.t.Context(), installed.manifests, "apply", "-f", "-")
	e.check(err)
}

// waitReady waits until all replicas of the newest version of the Deployment are ready,
// and shows what the Pods say if they do not become ready.
func (e env) waitReady() {
	e.t.Helper()
	e.t.Cleanup(func() {
		if e.t.Failed() {
			e.t.Log(e.diagnosis())
		}
	})
	e.eventually(afterStart, func() error {
		d, err := cluster.Kube.AppsV1().Deployments(harness.SystemNamespace).Get(e.t.Context(), deployment, metav1.GetOptions{})
		if err != nil {
			return err
		}
		s := d.Status
		if s.ObservedGeneration < d.Generation || s.ReadyReplicas != *d.Spec.Replicas || s.UpdatedReplicas != *d.Spec.Replicas || s.Replicas != *d.Spec.Replicas {
			return fmt.Errorf("%d of %d replicas are ready, %d are up to date, %d exist", s.ReadyReplicas, *d.Spec.Replicas, s.UpdatedReplicas, s.Replicas)
		}
		return nil
	})
}

// diagnosis returns the state of the Pods of the controller, and the ends of their logs.
func (e env) diagnosis() string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var text strings.Builder
	for _, args := range [][]string{
		{"get", "pods", "-A", "-o", "wide"},
		{"-n", harness.SystemNamespace, "get", "events", "--sort-by=.lastTimestamp"},
		{"-n", harness.SystemNamespace, "logs", "-l", "app=" + deployment, "--tail", "20", "--prefix"},
	} {
		out, err := cluster.RunKubectl(ctx, "", args...)
		fmt.Fprintf(&text, "$ kubectl %s\n%s", strings.Join(args, " "), out)
		if err != nil {
			fmt.Fprintln(&text, err)
		}
	}
	return text.String()
}

// pods returns the Pods of the controller that do not end.
func (e env) pods() []corev1.Pod {
	e.t.Helper()
	list, err := cluster.Kube.CoreV1().Pods(harness.SystemNamespace).List(e.t.Context(), metav1.ListOptions{LabelSelector: "app=" + deployment})
	e.check(err)
	var running []corev1.Pod
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil {
			running = append(running, pod)
		}
	}
	return running
}
