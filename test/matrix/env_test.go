// SPDX-License-Identifier: Apache-2.0

//go:build matrix

// Package matrix tests the controller with several releases of Tekton and Kubernetes,
// each built from its own Go module. Each test has a cluster of its own.
package matrix

import (
	"context"
	"crypto"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

const (
	soon = 30 * time.Second
	// refusedReason is the reason of Tekton's condition if a signature does not verify.
	refusedReason = "ResourceVerificationFailed"
)

// binaries builds the binaries of go.mod once.
var binaries = sync.OnceValues(func() (harness.Binaries, error) {
	return harness.Build(context.Background(), os.Stderr)
})

// env is a cluster with a controller and its key.
type env struct {
	*harness.Cluster
	t          *testing.T
	public     crypto.PublicKey
	controller *harness.Controller
}

// start starts a cluster of the releases, and a controller that signs all kinds and
// adds the verification status to attestations.
func start(t *testing.T, releases harness.Releases) *env {
	t.Helper()
	e := &env{t: t}
	built, err := binaries()
	e.check(err)
	built, err = built.WithReleases(t.Context(), releases, os.Stderr)
	e.check(err)
	e.Cluster, err = harness.Run(t.Context(), built, t.TempDir(), os.Stderr)
	e.check(err)
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	secret, public, err := fixtures.CosignSecret()
	e.check(err)
	e.public = public
	dir := t.TempDir()
	e.check(secret.Write(dir))
	settings := map[string]string{
		"artifacts.taskrun.format": "slsa/v2alpha4", "artifacts.taskrun.storage": "tekton", "artifacts.pipelinerun.storage": "tekton",
		"artifacts.oci.signer": "none", "trustedresources.provenance.enabled": "true",
	}
	maps.Copy(settings, harness.SignAll())
	e.check(e.Configure(t.Context(), settings))
	e.controller, err = e.AddController(t.Context(), "controller", dir)
	e.check(err)
	t.Cleanup(func() {
		if log, err := e.controller.Log(); t.Failed() && err == nil {
			lines := strings.Split(log, "\n")
			t.Logf("end of the controller's log:\n%s", strings.Join(lines[max(0, len(lines)-30):], "\n"))
		}
		if err := e.controller.Remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return e
}

func (e *env) check(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

// eventually polls until check returns nil.
func (e *env) eventually(check func() error) {
	e.t.Helper()
	e.check(eventually(e.t.Context(), check))
}

func eventually(ctx context.Context, check func() error) error {
	return harness.Eventually(ctx, soon, func(context.Context) error { return check() })
}

// namespace creates a namespace whose resources are signed, with an enforce policy that
// trusts the controller's key.
func (e *env) namespace() string {
	e.t.Helper()
	ns, err := e.Kube.CoreV1().Namespaces().Create(e.t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "matrix-", Labels: map[string]string{v1alpha1.SignLabel: "true"}},
	}, metav1.CreateOptions{})
	e.check(err)
	e.check(e.Trust(e.t.Context(), ns.Name, e.public))
	e.eventually(func() error {
		_, err := e.Kube.CoreV1().ServiceAccounts(ns.Name).Get(e.t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return ns.Name
}

func (e *env) createTask(namespace, name string) {
	e.t.Helper()
	_, err := e.Tekton.TektonV1().Tasks(namespace).Create(e.t.Context(), &v1.Task{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1.TaskSpec{Steps: []v1.Step{{Name: "hello", Image: "alpine", Script: "echo hello"}}},
	}, metav1.CreateOptions{})
	e.check(err)
}

func (e *env) signature(namespace, name string) string {
	e.t.Helper()
	task, err := e.Tekton.TektonV1().Tasks(namespace).Get(e.t.Context(), name, metav1.GetOptions{})
	e.check(err)
	return task.Annotations[trustedresources.SignatureAnnotation]
}

// waitSigned waits for a signature other than the given one.
func (e *env) waitSigned(namespace, name, other string) (signature string) {
	e.t.Helper()
	e.eventually(func() error {
		signature = e.signature(namespace, name)
		if signature == "" || signature == other {
			return fmt.Errorf("Task %s/%s has the signature %q", namespace, name, signature)
		}
		return nil
	})
	return signature
}

// tamper changes the content of a Task and leaves the signature.
func (e *env) tamper(namespace, name string) {
	e.t.Helper()
	_, err := e.Tekton.TektonV1().Tasks(namespace).Patch(e.t.Context(), name, types.MergePatchType,
		[]byte(`{"spec":{"steps":[{"name":"hello","image":"alpine","script":"echo evil"}]}}`), metav1.PatchOptions{})
	e.check(err)
}

// run runs a Task by reference and waits for the end.
func (e *env) run(namespace, name string) *v1.TaskRun {
	e.t.Helper()
	run, err := e.RunTask(e.t.Context(), namespace, name, harness.BuildsImage(), soon)
	e.check(err)
	return run
}

func (e *env) expectAccepted(run *v1.TaskRun) {
	e.t.Helper()
	if c := run.Status.GetCondition(apis.ConditionSucceeded); c.Status != corev1.ConditionTrue {
		e.t.Errorf("the run of a signed Task failed: %s: %s", c.Reason, c.Message)
	}
	if c := run.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified); c == nil || c.Status != corev1.ConditionTrue {
		e.t.Errorf("TrustedResourcesVerified is %+v, want True", c)
	}
}

func (e *env) expectRefused(run *v1.TaskRun) {
	e.t.Helper()
	if c := run.Status.GetCondition(apis.ConditionSucceeded); c.Status != corev1.ConditionFalse || c.Reason != refusedReason {
		e.t.Errorf("got %s %s: %s; want %s", c.Status, c.Reason, c.Message, refusedReason)
	}
}

// expectPassed requires that the attestation of a run says that all resources behind
// the run were verified.
func (e *env) expectPassed(run *v1.TaskRun) {
	e.t.Helper()
	e.eventually(func() error {
		got, err := e.Tekton.TektonV1().TaskRuns(run.Namespace).Get(e.t.Context(), run.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		payload, err := harness.Attestation(got, harness.TaskRun, e.public)
		if err != nil {
			return err
		}
		statement, err := harness.ParseProvenance(payload)
		if err != nil {
			return err
		}
		summary, err := statement.Summary()
		if err != nil {
			return err
		}
		if summary == nil || summary.Result != "PASSED" || summary.Agreement != "AGREES" {
			return fmt.Errorf("the attestation says %+v", summary)
		}
		return nil
	})
}
