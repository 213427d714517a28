// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"

	trv1alpha1 "github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// A signature of a revoked key is an alarm: the controller does not replace it, and an
// attestation says FAILED even if a policy still trusts the key.
func TestRevokedKey_RaisesTheAlarm(t *testing.T) {
	e := startController(t)
	e.configure(with(signAll, withProvenance))
	ns := e.namespace()
	stolen := *e
	e.createTask(newTask(ns, "build", buildsImage))
	before := e.waitSigned(ns, "build")
	e.createTask(newTask(ns, "waits"))
	e.waitSigned(ns, "waits")
	e.enforcePolicy(ns, v1alpha1.Authority{Name: "stolen", Key: &v1alpha1.KeyRef{Data: stolen.publicKeyPEM()}})

	next, public, err := fixtures.X509Secret()
	e.check(err)
	next["revoked-1.pub"] = []byte(stolen.publicKeyPEM())
	e.check(next.Write(e.secretsDir))
	e.public = public
	e.waitLogged(e.controller, "Key ring loaded", `"revoked":["`+stolen.keyID()+`"]`)
	e.waitEvent(before, trv1alpha1.ReasonKeyRevoked, stolen.keyID(), "revoked")
	e.waitLogged(e.controller, "Resource not signed", `"reason":"KeyRevoked"`, `"name":"build"`)
	e.waitMetric(`trustedresources_signing_failures_total{kind="Task",reason="KeyRevoked"} 2`)
	if got := e.getTask(ns, "build"); signature(got) != signature(before) {
		t.Error("the signature of the revoked key was replaced")
	}

	m := &matrix{env: e}
	m.createTaskRun(ns, "run", &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, "build")})
	p := m.waitAttestation(ns, "run", false, soon) // Tekton trusts the key as the policy does
	m.expectVerifications(p, "Task build FAILED KeyRevoked")
	verifications, summary := m.verificationStatus(p)
	if verifications[0].KeyID != stolen.keyID() || summary.Result != "FAILED" || summary.Agreement != "DIFFERS" {
		t.Errorf("got %+v and summary %+v, want the revoked key, FAILED and DIFFERS", verifications[0], summary)
	}

	// The operator has checked the content.
	e.patchTask(ns, "build", `{"metadata":{"annotations":{"tekton.dev/signature":null}}}`)
	e.waitSigned(ns, "build")

	e.check(e.controller.Stop(t.Context()))
	e.check(e.controller.Start(t.Context()))
	e.createTask(newTask(ns, "new"))
	e.waitSigned(ns, "new")
	e.check(harness.Verify(t.Context(), e.getTask(ns, "waits"), stolen.public)) // still the signature of the revoked key
}

// A revoked key signs nothing: neither resources nor runs, and not as the last good key
// either.
func TestRevokedKey_SignsNothing(t *testing.T) {
	e := startController(t)
	e.configure(withoutRegistry)
	ns := e.namespace()
	e.createTask(newTask(ns, "before"))
	e.waitSigned(ns, "before")
	revoked := fixtures.Secret{fixtures.X509Key: []byte("garbage"), "revoked-1.pub": []byte(e.publicKeyPEM())}
	e.check(revoked.Write(e.secretsDir))
	e.waitLogged(e.controller, "Signing key not usable", "is revoked")
	waits := e.createTask(newTask(ns, "build", buildsImage))
	e.waitEvent(waits, trv1alpha1.ReasonNoKey, "is revoked")
	run := e.runTask(ns, "build")
	e.waitEvent(run, trv1alpha1.ReasonRunNotSigned, "is revoked")

	next, public, err := fixtures.X509Secret()
	e.check(err)
	next["revoked-1.pub"] = revoked["revoked-1.pub"]
	e.check(next.Write(e.secretsDir))
	e.public = public
	e.waitSigned(ns, "build")
	e.waitAttested(ns, run.Name)
}
