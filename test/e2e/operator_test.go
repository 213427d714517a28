// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// operatorNamespace is where the Tekton operator installs Tekton on OpenShift.
const operatorNamespace = "openshift-pipelines"

// afterGrant leaves time for the controller to ask for its rights again.
var afterGrant = harness.TimeLimit(time.Minute)

// The controller replaces the image of a stock Chains in another namespace, with the
// manifest of Chains around it, as under the Tekton operator.
func TestOperator_SignsRunsAndThenResources(t *testing.T) {
	e := newEnv(t)
	stock := e.installStock()
	e.controller = e.addStock(stock)
	ns := e.namespace()
	e.configMapIn(config.OwnConfigMap, signAll)
	chains, err := cluster.Kube.CoreV1().ConfigMaps(operatorNamespace).Get(t.Context(), harness.ConfigMap, metav1.GetOptions{})
	e.check(err)

	t.Run("runs as Chains does", func(t *testing.T) {
		e := e.sub(t)
		run := e.runBuildTask(ns)
		statement, err := harness.Attestation(run, harness.TaskRun, e.public)
		e.check(err)
		if !strings.Contains(string(statement), "registry.example/app") {
			t.Errorf("the attestation does not name the image registry.example/app: %s", statement)
		}
	})
	t.Run("says once which rights are missing", func(t *testing.T) {
		e := e.sub(t)
		e.waitEvent(chains, v1alpha1.ReasonRightsMissing,
			"get, list, watch, patch stepactions.tekton.dev", "list, watch verificationpolicies.tekton.dev",
			"list, watch namespaces", "get resolutionrequests.resolution.tekton.dev", "config/operator")
		e.expectLines("lacks rights", 1)
		e.expectLines("is forbidden", 0)
		if got := e.getTask(ns, "build"); signature(got) != "" {
			t.Error("the Task is signed without the rights for it")
		}
	})
	t.Run("resources once the rights are granted", func(t *testing.T) {
		e := e.sub(t)
		e.grantRights()
		e.waitEventWithin(afterGrant, chains, v1alpha1.ReasonRightsGranted)
		e.waitSigned(ns, "build")
	})
	t.Run("not with settings of Chains in our ConfigMap", func(t *testing.T) {
		e := e.sub(t)
		own := e.configMapIn(config.OwnConfigMap, with(signAll, map[string]string{"artifacts.taskrun.signer": "none"}))
		e.waitEvent(own, v1alpha1.ReasonConfigRefused, "artifacts.taskrun.signer")
		e.createTask(newTask(ns, "kept")) // with the last good configuration
		e.waitSigned(ns, "kept")
	})
	t.Run("with the release in its own namespace", func(t *testing.T) {
		e := e.sub(t)
		e.configMapIn(tekton.InfoConfigMap, map[string]string{"version": "v0.30.0"})
		e.waitLogged(e.controller, "Nothing is signed", "v0.30.0")
		late := e.createTask(newTask(ns, "late"))
		e.waitEvent(late, v1alpha1.ReasonTektonTooOld, "v0.30.0")
	})
}

// installStock installs the manifest of a stock Chains until the test ends, and the
// ConfigMap with which Tekton Pipelines publishes its release, which the operator
// installs in the same namespace.
func (e *env) installStock() *harness.StockChains {
	e.t.Helper()
	stock, err := harness.NewStockChains(e.t.Context(), operatorNamespace)
	e.check(err)
	e.cleanup(func() error {
		_, err := cluster.RunKubectl(cleanupContext(), stock.Manifest, "delete", "--ignore-not-found", "-f", "-")
		return err
	})
	_, err = cluster.RunKubectl(e.t.Context(), stock.Manifest, "apply", "--server-side", "-f", "-")
	e.check(err)
	installed, err := cluster.Kube.CoreV1().ConfigMaps(tekton.DefaultNamespace).Get(e.t.Context(), tekton.InfoConfigMap, metav1.GetOptions{})
	e.check(err)
	e.configMapIn(tekton.InfoConfigMap, installed.Data)
	e.configMapIn(harness.ConfigMap, map[string]string{"artifacts.oci.signer": "none"})
	return stock
}

func (e *env) addStock(stock *harness.StockChains) *harness.Controller {
	e.t.Helper()
	controller, err := cluster.AddStock(e.t.Context(), stock, "operator", e.secretsDir)
	e.check(err)
	e.removeAtEnd(controller)
	return controller
}

// configMapIn writes a ConfigMap in the namespace of the operator.
func (e *env) configMapIn(name string, data map[string]string) *corev1.ConfigMap {
	e.t.Helper()
	configMaps := cluster.Kube.CoreV1().ConfigMaps(operatorNamespace)
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: name}, Data: data}
	written, err := configMaps.Update(e.t.Context(), cm, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		written, err = configMaps.Create(e.t.Context(), cm, metav1.CreateOptions{})
	}
	e.check(err)
	return written
}

// grantRights applies config/operator until the test ends.
func (e *env) grantRights() {
	e.t.Helper()
	dir := filepath.Join(harness.Root(), "config", "operator", "openshift")
	_, err := cluster.RunKubectl(e.t.Context(), "", "apply", "-k", dir)
	e.check(err)
	e.cleanup(func() error {
		// The namespace stays: other tests need it, and its deletion takes time.
		_, err := cluster.RunKubectl(cleanupContext(), "", "delete", "--ignore-not-found", "-l", "app.kubernetes.io/component=controller", "-k", dir)
		return err
	})
}

// expectLines requires that a text is in exactly so many lines of the controller's log.
func (e *env) expectLines(text string, want int) {
	e.t.Helper()
	log, err := e.controller.Log()
	e.check(err)
	if got := countLines(log, text); got != want {
		e.t.Errorf("%d lines of the log contain %q, want %d", got, text, want)
	}
}
