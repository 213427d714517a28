// SPDX-License-Identifier: Apache-2.0

//go:build realnode

package realnode

import (
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// clusterKinds are the kinds of objects with which an installation could act in the whole
// cluster.
const clusterKinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations," +
	"validatingadmissionpolicies,validatingadmissionpolicybindings," +
	"mutatingadmissionpolicies,mutatingadmissionpolicybindings,clusterroles,clusterrolebindings"

// nothingBlocks expects that nothing of the installation is left that acts, and that users
// can create, run, change and delete.
func (g *guide) nothingBlocks(string) {
	g.t.Helper()
	for name := range strings.Lines(g.kubectl("get", clusterKinds, "-o", "name")) {
		if strings.Contains(name, "trustedresources") || strings.Contains(name, "tekton-chains") {
			g.t.Errorf("%s is left", strings.TrimSpace(name))
		}
	}
	if _, err := cluster.Kube.CoreV1().Namespaces().Get(g.t.Context(), harness.SystemNamespace, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		g.t.Errorf("namespace %s is left: %v", harness.SystemNamespace, err)
	}
	g.createTask(task(team, "free", "true"))
	if run := g.runTask(team, "free"); !succeeded(run).IsTrue() {
		g.t.Errorf("a run after the uninstallation: %+v", run.Status.Conditions)
	}
	g.kubectl("-n", team, "delete", "tasks,taskruns", "--all", "--timeout", "30s")
	g.kubectl("delete", "namespace", team, "--timeout", "60s")
	g.eventually(soon, func() error {
		_, err := cluster.Kube.CoreV1().Namespaces().Get(g.t.Context(), team, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("namespace %s is left: %w", team, err)
	})
	installed.public = nil
}
