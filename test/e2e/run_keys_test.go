// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// pid returns the process ID of the controller.
func (e *env) pid() int {
	e.t.Helper()
	part, err := cluster.Part(e.t.Context(), e.controller.Name)
	e.check(err)
	if part.PID == 0 {
		e.t.Fatalf("the controller is %s", part.State)
	}
	return part.PID
}

// expectSameProcess fails the test if the controller ended or was started again.
func (e *env) expectSameProcess(before int) {
	e.t.Helper()
	if now := e.pid(); now != before {
		e.t.Fatalf("the controller has process ID %d, want still %d", now, before)
	}
}

// x509File returns a signing secret with a private key in x509.pem.
func (e *env) x509File(key crypto.PrivateKey) fixtures.Secret {
	e.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	e.check(err)
	return fixtures.Secret{fixtures.X509Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
}

// unusableSecret is a signing secret, and what the controller says of it.
type unusableSecret struct {
	files fixtures.Secret
	says  string
}

// Each file makes stock Chains end its process, or mark a run as signed that it did not
// sign.
func (e *env) unusableSecrets() map[string]unusableSecret {
	e.t.Helper()
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	e.check(err)
	rsa, err := fixtures.RSASecret()
	e.check(err)
	return map[string]unusableSecret{
		"garbage":     {fixtures.Secret{fixtures.X509Key: []byte("garbage")}, "not PEM"},
		"empty-file":  {fixtures.Secret{fixtures.X509Key: {}}, "not PEM"},
		"huge-file":   {fixtures.Secret{fixtures.X509Key: bytes.Repeat([]byte("x"), 900<<10)}, "longer than"}, // a Secret has up to 1 MiB
		"ed25519":     {e.x509File(edwards), "ed25519"},
		"rsa":         {rsa, "rsa"},
		"not-der":     {fixtures.Secret{fixtures.X509Key: []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")}, "does not hold"},
		"certificate": {fixtures.Secret{fixtures.X509Key: []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")}, "CERTIFICATE"},
		"no-password": {fixtures.Secret{fixtures.CosignKey: []byte("garbage")}, "cosign.key"},
		"no-files":    {fixtures.Secret{}, "found neither"},
	}
}

func TestRunSigning_KeepsLastGoodKeyWhenFilesAreUnusable(t *testing.T) {
	e := startController(t)
	e.configure(withoutRegistry)
	before := e.pid()
	for name, secret := range e.unusableSecrets() {
		t.Run(name, func(t *testing.T) {
			e := e.sub(t)
			ns := e.namespace()
			e.check(secret.files.Write(e.secretsDir))
			e.waitLogged(e.controller, "the last good one stays in use", secret.says)
			run := e.runBuildTask(ns)
			_, err := harness.Attestation(run, harness.TaskRun, e.public)
			e.check(err)
			e.waitSigned(ns, "build") // the Task
			e.expectSameProcess(before)
		})
	}
	for name, curve := range map[string]elliptic.Curve{"p384": elliptic.P384(), "p521": elliptic.P521()} {
		t.Run("usable again with "+name, func(t *testing.T) {
			e := e.sub(t)
			key, err := ecdsa.GenerateKey(curve, rand.Reader)
			e.check(err)
			e.check(e.x509File(key).Write(e.secretsDir))
			e.public = key.Public()
			e.waitLogged(e.controller, "Key ring loaded", e.keyID())
			ns := e.namespace()
			run := e.runBuildTask(ns)
			_, err = harness.Attestation(run, harness.TaskRun, e.public)
			e.check(err)
			e.waitSigned(ns, "build")
			e.expectSameProcess(before)
		})
	}
}

// Without a good key, a run is neither signed nor marked as signed. It is signed as soon
// as there is a good key.
func TestRunSigning_WaitsForAUsableKey(t *testing.T) {
	e := newEnv(t)
	e.configure(withoutRegistry)
	good, public, err := fixtures.X509Secret()
	e.check(err)
	e.check(fixtures.Secret{fixtures.X509Key: []byte("garbage")}.Write(e.secretsDir))
	e.controller = e.addReplica("controller")
	e.public = public
	before := e.pid()
	ns := e.namespace()
	e.createTask(newTask(ns, "build", buildsImage))
	run := e.runTask(ns, "build")
	e.waitEvent(run, v1alpha1.ReasonRunNotSigned, "x509.pem", "not PEM")
	e.waitLogged(e.controller, "Run not signed", run.Name, "not PEM")
	count, err := e.sumMetric("trustedresources_run_failures_total", `reason="RunNotSigned"`)
	e.check(err)
	if count == 0 {
		t.Error("the metric does not count the run")
	}
	run, err = cluster.Tekton.TektonV1().TaskRuns(ns).Get(t.Context(), run.Name, metav1.GetOptions{})
	e.check(err)
	if mark, marked := run.Annotations[chainsSigned]; marked {
		t.Errorf("the run is marked %q, want no mark", mark)
	}
	e.expectSameProcess(before)

	e.check(good.Write(e.secretsDir))
	e.waitAttested(ns, run.Name)
	e.expectSameProcess(before)
}

// waitAttested waits until a TaskRun has an attestation that the key of e verifies.
func (e *env) waitAttested(namespace, name string) {
	e.t.Helper()
	e.eventually(afterFailover, func() error { // the delay between two attempts grows
		run, err := cluster.Tekton.TektonV1().TaskRuns(namespace).Get(e.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if mark := run.Annotations[chainsSigned]; mark != "true" {
			return fmt.Errorf("annotation %s is %q", chainsSigned, mark)
		}
		_, err = harness.Attestation(run, harness.TaskRun, e.public)
		return err
	})
}

// Stock Chains panics on the PipelineRun: a TaskRun of the PipelineRun has no time of
// start. The panic ends one reconcile and not the process.
func TestRunSigning_ContinuesAfterPanicOfChains(t *testing.T) {
	e := startController(t)
	e.configure(withoutRegistry)
	ns := e.namespace()
	e.createTask(newTask(ns, "build", buildsImage))
	e.waitSigned(ns, "build")
	e.check(e.controller.Stop(t.Context())) // so that the PipelineRun is not signed before it is changed
	pipelineRun, child := e.runPipelineOf(ns, "build")

	e.check(cluster.Control(t.Context(), "stop", harness.PartTektonController)) // sets the time of start again
	e.cleanup(func() error { return cluster.Control(cleanupContext(), "start", harness.PartTektonController) })
	started := child.Status.StartTime
	setStart := func(patch string) {
		t.Helper()
		_, err := cluster.Tekton.TektonV1().TaskRuns(ns).Patch(t.Context(), child.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
		e.check(err)
	}
	setStart(`{"status":{"startTime":null}}`)
	e.check(e.controller.Start(t.Context()))
	before := e.pid()
	e.waitEvent(pipelineRun, v1alpha1.ReasonPanicked, "nil pointer dereference", "bug")
	e.waitLogged(e.controller, "Run not signed", pipelineRun.Name, "ControllerPanicked", "pipelinerun.go") // with the stack
	e.waitMetric(`trustedresources_run_failures_total{kind="PipelineRun",reason="ControllerPanicked"} 1`)
	e.createTask(newTask(ns, "another"))
	e.waitSigned(ns, "another")
	e.expectSameProcess(before)
	if mark, marked := e.getPipelineRun(ns, pipelineRun.Name).Annotations[chainsSigned]; marked {
		t.Errorf("the PipelineRun is marked %q, want no mark", mark)
	}

	setStart(fmt.Sprintf(`{"status":{"startTime":%q}}`, started.UTC().Format("2006-01-02T15:04:05Z")))
	e.eventually(afterFailover, func() error {
		_, err := harness.Attestation(e.getPipelineRun(ns, pipelineRun.Name), harness.PipelineRun, e.public)
		return err
	})
	e.expectSameProcess(before)
}

func (e *env) getPipelineRun(namespace, name string) *v1.PipelineRun {
	e.t.Helper()
	run, err := cluster.Tekton.TektonV1().PipelineRuns(namespace).Get(e.t.Context(), name, metav1.GetOptions{})
	e.check(err)
	return run
}

// runPipelineOf runs a Pipeline with one Task, and waits until the run has ended.
func (e *env) runPipelineOf(namespace, task string) (*v1.PipelineRun, *v1.TaskRun) {
	e.t.Helper()
	run, err := cluster.Tekton.TektonV1().PipelineRuns(namespace).Create(e.t.Context(), &v1.PipelineRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pipeline-" + task},
		Spec: v1.PipelineRunSpec{PipelineSpec: &v1.PipelineSpec{Tasks: []v1.PipelineTask{
			{Name: task, TaskRef: &v1.TaskRef{Name: task}},
		}}},
	}, metav1.CreateOptions{})
	e.check(err)
	var child *v1.TaskRun
	e.eventually(soon, func() error {
		if run = e.getPipelineRun(namespace, run.Name); !run.IsDone() || len(run.Status.ChildReferences) == 0 {
			return fmt.Errorf("PipelineRun %s has not ended", run.Name)
		}
		child, err = cluster.Tekton.TektonV1().TaskRuns(namespace).Get(e.t.Context(), run.Status.ChildReferences[0].Name, metav1.GetOptions{})
		return err
	})
	return run, child
}
