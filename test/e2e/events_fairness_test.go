// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"golang.org/x/sync/errgroup"

	trv1alpha1 "github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// A tenant who causes thousands of warnings delays neither the warnings of another
// tenant nor the Events for the operator.
func TestEvents_OfOneTenantDoNotDelayOthers(t *testing.T) {
	m := startWithStatus(t)
	m.configure(with(signAll, withProvenance))
	const many = 2000
	promptly := harness.TimeLimit(2 * time.Second)
	loud, quiet := m.namespace(), m.namespaceLabelled(nil)

	// In the quiet namespace, the verification will differ from Tekton's.
	m.createPolicies(quiet, trusted)
	built := newTask(quiet, "built", buildsImage)
	m.check(m.signer.Sign(t.Context(), built))
	m.createTask(built)
	m.createTaskRun(quiet, "run", &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, quiet, "built")}, lastingFor(30*time.Second))
	m.waitUnderway(quiet, "run")
	m.check(cluster.Tekton.TektonV1alpha1().VerificationPolicies(quiet).Delete(t.Context(), "trust", metav1.DeleteOptions{}))
	m.createPolicy(quiet, "others", ".*", v1alpha1.ModeEnforce, m.otherSigner)

	// In the loud namespace, each Task causes a warning: the controller cannot read the
	// key that may have made its signature.
	m.enforcePolicy(loud, v1alpha1.Authority{Name: "absent", Key: &v1alpha1.KeyRef{SecretRef: &corev1.SecretReference{Namespace: loud, Name: "absent"}}})
	var flood errgroup.Group
	flood.Go(func() error { return createUnknown(t.Context(), loud, many) })
	m.waitAttestation(quiet, "run", false, harness.TimeLimit(time.Minute))
	run, err := cluster.Tekton.TektonV1().TaskRuns(quiet).Get(t.Context(), "run", metav1.GetOptions{})
	m.check(err)
	m.waitEventWithin(promptly, run, trv1alpha1.ReasonVerificationDiffers)

	m.configure(map[string]string{"artifacts.task.signer": "pgp"})
	cm, err := cluster.Kube.CoreV1().ConfigMaps(harness.SystemNamespace).Get(t.Context(), harness.ConfigMap, metav1.GetOptions{})
	m.check(err)
	m.waitEventWithin(promptly, cm, trv1alpha1.ReasonConfigRefused, "pgp")
	m.check(flood.Wait())

	// The test shows nothing unless the warnings of the loud namespace still wait.
	events, err := cluster.Kube.CoreV1().Events(loud).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=" + trv1alpha1.ReasonUndecided})
	m.check(err)
	if posted := len(events.Items); posted == 0 || posted >= many {
		t.Errorf("%d of %d warnings of the loud namespace are posted, want some that wait", posted, many)
	}
}
