// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// chainsSigned is the annotation that Chains sets on a run after signing it.
const chainsSigned = "chains.tekton.dev/signed"

// Under an enforce policy, Tekton's own controller runs Tasks that this controller has
// signed, and refuses all others.
func TestTekton_RunsOnlySignedTasks(t *testing.T) {
	e := startController(t)
	ns := e.namespace()
	e.check(cluster.Trust(t.Context(), ns, e.public))

	t.Run("signed Task runs", func(t *testing.T) {
		e := e.sub(t)
		e.createTask(newTask(ns, "signed"))
		signed := e.waitSigned(ns, "signed")
		run := e.runTask(ns, "signed")
		if c := run.Status.GetCondition(apis.ConditionSucceeded); c.Status != corev1.ConditionTrue {
			t.Errorf("the run failed: %s: %s", c.Reason, c.Message)
		}
		if c := run.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified); c == nil || c.Status != corev1.ConditionTrue {
			t.Errorf("TrustedResourcesVerified is %+v, want True", c)
		}
		checksum, err := signed.Checksum()
		e.check(err)
		if got := run.Status.Provenance.RefSource.Digest["sha256"]; got != fmt.Sprintf("%x", checksum) {
			t.Errorf("the run recorded digest %s, want the signed checksum %x", got, checksum)
		}
	})

	e.check(e.controller.Stop(t.Context()))

	t.Run("changed Task is refused", func(t *testing.T) {
		e := e.sub(t)
		e.patchTask(ns, "signed", `{"spec":{"steps":[{"name":"hello","image":"alpine","script":"echo evil"}]}}`)
		e.runExpectingRefusal(ns, "signed")
	})
	t.Run("unsigned Task is refused", func(t *testing.T) {
		e := e.sub(t)
		e.createTask(newTask(ns, "unsigned"))
		e.runExpectingRefusal(ns, "unsigned")
	})
}

func (e *env) runTask(namespace, name string) *v1.TaskRun {
	e.t.Helper()
	run, err := cluster.RunTask(e.t.Context(), namespace, name, harness.BuildsImage(), soon)
	e.check(err)
	return run
}

// runTasks runs Tasks, which Tekton must not refuse.
func (e *env) runTasks(namespace string, tasks ...string) {
	e.t.Helper()
	for _, task := range tasks {
		e.expectSuccess(e.runTask(namespace, task))
	}
}

func (e *env) runExpectingRefusal(namespace, name string) {
	e.t.Helper()
	e.expectRefused(e.runTask(namespace, name))
}

// expectRefused requires that Tekton has refused a run because of the signature.
func (e *env) expectRefused(run *v1.TaskRun) {
	e.t.Helper()
	c := run.Status.GetCondition(apis.ConditionSucceeded)
	if c.Status != corev1.ConditionFalse || c.Reason != "ResourceVerificationFailed" {
		e.t.Errorf("got %s %s: %s; want ResourceVerificationFailed", c.Status, c.Reason, c.Message)
	}
}

// withoutRegistry makes Chains sign runs but not the images that they built.
var withoutRegistry = with(signAll, map[string]string{"artifacts.oci.signer": "none"})

// runBuildTask runs a Task that builds an image, and waits until Chains has signed the
// run.
func (e *env) runBuildTask(namespace string) *v1.TaskRun {
	e.t.Helper()
	e.createTask(newTask(namespace, "build", func(t *v1.Task) {
		t.Spec.Results = []v1.TaskResult{{Name: "IMAGE_URL"}, {Name: "IMAGE_DIGEST"}}
	}))
	name := e.runTask(namespace, "build").Name
	var run *v1.TaskRun
	e.eventually(soon, func() (err error) {
		run, err = cluster.Tekton.TektonV1().TaskRuns(namespace).Get(e.t.Context(), name, metav1.GetOptions{})
		if err == nil && run.Annotations[chainsSigned] != "true" {
			err = fmt.Errorf("annotation %s is %q", chainsSigned, run.Annotations[chainsSigned])
		}
		return err
	})
	return run
}

// The controller includes Chains: it signs runs as stock Chains does, with the RBAC of
// config/. With --sign-runs=false it runs beside a stock Chains and signs no runs.
func TestChains_SignsRunsUnlessDisabled(t *testing.T) {
	t.Run("by default", func(t *testing.T) {
		e := startController(t)
		e.configure(withoutRegistry)
		ns := e.namespace()
		run := e.runBuildTask(ns)
		statement, err := harness.Attestation(run, harness.TaskRun, e.public)
		e.check(err)
		if !strings.Contains(string(statement), "registry.example/app") {
			t.Errorf("the attestation does not name the image registry.example/app: %s", statement)
		}
		e.check(cluster.Tekton.TektonV1().TaskRuns(ns).Delete(t.Context(), run.Name, metav1.DeleteOptions{}))
		e.eventually(soon, func() error { // Chains removes its finalizer
			_, err := cluster.Tekton.TektonV1().TaskRuns(ns).Get(t.Context(), run.Name, metav1.GetOptions{})
			if err == nil {
				return fmt.Errorf("TaskRun %s still exists", run.Name)
			}
			return ignoreNotFound(err)
		})
	})

	t.Run("not beside a stock Chains", func(t *testing.T) {
		e := startController(t, "--sign-runs=false")
		ns := e.namespace()
		e.createTask(newTask(ns, "build"))
		e.waitSigned(ns, "build")
		run := e.runTask(ns, "build")
		e.createTask(newTask(ns, "after"))
		e.waitSigned(ns, "after")
		got, err := cluster.Tekton.TektonV1().TaskRuns(ns).Get(t.Context(), run.Name, metav1.GetOptions{})
		e.check(err)
		if got.Annotations[chainsSigned] != "" || len(got.Finalizers) != 0 {
			t.Errorf("the run was signed with --sign-runs=false: annotations %v, finalizers %v", got.Annotations, got.Finalizers)
		}
	})
}
