// SPDX-License-Identifier: Apache-2.0

//go:build monitoring

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// notDriven are the alerts whose cause this test cannot make, and why. promtool tests them with
// series that are written by hand (test/monitoring).
var notDriven = map[string]string{
	"TrustedResourcesMetricsOverflow":          "our labels are bounded, so an overflow is a bug",
	"TrustedResourcesRotationStuck":            "a rotation that is stuck for an hour of resources",
	"TrustedResourcesSigningBudgetBurnsFast":   "takes an hour of slow signatures",
	"TrustedResourcesSigningBudgetBurnsSlowly": "takes a day of slow signatures",
}

// A real Prometheus scrapes a real controller while everything happens that the alerts are about.
// Each alert fires and resolves, and each panel shows something.
func TestMonitoring_ShowsWhatHappens(t *testing.T) {
	w := startWatched(t)
	w.eventually(soon, func() error { // a replica has to become the leader
		if firing := w.firing(); len(firing) > 0 {
			return fmt.Errorf("before anything has happened, %q fire", firing)
		}
		return nil
	})
	fired := map[string]bool{}
	step := func(name string, drive func(w *watched), alerts ...string) {
		t.Run(name, func(t *testing.T) {
			sub := w.in(t)
			drive(sub)
			sub.waitFiring(alerts...)
			for _, alert := range alerts {
				fired[alert] = true
			}
		})
	}
	step("earlier state", (*watched).restoreEarlierState, "TrustedResourcesEarlierStateRestored")
	step("runs", (*watched).runEverything,
		"TrustedResourcesTampered", "TrustedResourcesPolicyViolation", "TrustedResourcesWarnViolation", "TrustedResourcesRunsRefused")
	step("gate waits", (*watched).holdRuns, "TrustedResourcesRunsWaiting", "TrustedResourcesKMSErrors")
	step("policy broken", (*watched).breakPolicy, "TrustedResourcesPolicyBroken")
	step("no key", (*watched).takeKey,
		"TrustedResourcesNoActiveKey", "TrustedResourcesSigningFailing", "TrustedResourcesSigningBacklog", "TrustedResourcesUnsignedUnderEnforce")
	step("config", (*watched).refuseConfig, "TrustedResourcesConfigRefused")
	step("audit log", (*watched).loseRecords, "TrustedResourcesAuditLoss")
	step("admission", (*watched).breakAdmission, "TrustedResourcesAdmissionErrors")
	step("revoked key", (*watched).revokeKey, "TrustedResourcesVerdictDiffers")
	step("old key", (*watched).createRing, "TrustedResourcesKeyOld")
	t.Run("panels", w.expectPanels)
	t.Run("check metrics", w.expectGoodMetrics)
	step("no leader", func(w *watched) { w.check(w.controller.Stop(w.t.Context())) }, "TrustedResourcesNoLeader")
	w.check(w.controller.Start(t.Context()))
	for _, alert := range w.alertNames() {
		reason, excepted := notDriven[alert]
		if fired[alert] == excepted {
			t.Errorf("%s has fired: %t, excepted: %q", alert, fired[alert], reason)
			continue
		}
		if !excepted {
			t.Run("resolved/"+alert, func(t *testing.T) { w.in(t).waitResolved(alert) })
		}
	}
	t.Run("runbook", w.executeRunbook)
}

// in returns w for a subtest.
func (w *watched) in(t *testing.T) *watched {
	m := matrix{env: w.sub(t), signer: w.signer, otherSigner: w.otherSigner, registry: w.registry, git: w.git}
	sub := *w
	sub.gated = &gated{&m}
	return &sub
}

// restoreEarlierState puts back what a Task was before, with its signature. The controller knows
// what it signed only some time after its start.
func (w *watched) restoreEarlierState() {
	w.t.Helper()
	ns := w.namespace()
	w.createTask(newTask(ns, "restored", func(t *v1.Task) { t.Spec.Description = "first" }))
	earlier := w.waitSigned(ns, "restored")
	w.waitTakeover()
	w.patchTask(ns, "restored", `{"spec":{"description":"second"}}`)
	restored := w.waitSigned(ns, "restored")
	restored.Spec, restored.Annotations = earlier.Spec, earlier.Annotations
	_, err := cluster.Tekton.TektonV1().Tasks(ns).Update(w.t.Context(), restored, metav1.UpdateOptions{})
	w.check(err)
	w.waitEvent(restored, v1alpha1.ReasonEarlierStateRestored)
}

// runEverything runs Tasks that pass, warn and are refused: tampered with, and unsigned.
func (w *watched) runEverything() {
	w.t.Helper()
	enforced, warns := w.namespaceLabelled(nil), w.namespaceLabelled(nil)
	w.createPolicies(enforced, trusted)
	w.createPolicies(warns, warned)
	w.signedTask(enforced, "good", buildsImage)
	tampered := newTask(enforced, "tampered", buildsImage)
	w.check(w.signer.Sign(w.t.Context(), tampered))
	tampered.Spec.Description = "changed after it was signed"
	w.createTask(tampered)
	w.createTask(newTask(enforced, "unsigned", buildsImage))
	w.createTask(newTask(warns, "unsigned", buildsImage))
	for _, place := range []struct{ namespace, task string }{{enforced, "good"}, {enforced, "tampered"}, {enforced, "unsigned"}, {warns, "unsigned"}} {
		w.createTaskRun(place.namespace, place.task, &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, place.namespace, place.task)})
	}
	w.expectSuccess(w.waitDone(enforced, "good"))
	w.expectSuccess(w.waitDone(warns, "unsigned"))
	w.expectRefused(w.waitDone(enforced, "tampered"))
	w.expectRefused(w.waitDone(enforced, "unsigned"))
}

// holdRuns lets the gate release two runs, and wait for a KMS that does not answer until the end
// of the subtest. The KMS has the key for a StepAction, which Tekton does not verify.
func (w *watched) holdRuns() {
	w.t.Helper()
	passes := w.enforced()
	w.signedTask(passes, "build")
	for _, run := range []string{"first", "second"} {
		w.createTaskRun(passes, run, &v1.TaskRef{Name: "build"})
		w.expectSuccess(w.waitDone(passes, run))
		w.waitSeries("trustedresources_gate_wait_seconds_count") // a rate needs two values
	}
	ns := w.enforced()
	w.createStepAction(ns, "compile", true)
	w.signedTask(ns, "build", withStepAction(&v1.Ref{Name: "compile"}))
	w.createKMSPolicy(ns, ".*/stepaction/.*", w.kms.reference())
	w.createTaskRun(ns, "waits", &v1.TaskRef{Name: "build"})
	w.waitEvent(w.getTaskRun(ns, "waits"), v1alpha1.ReasonRunHeld, "KeyUnavailable")
}

// breakPolicy creates a policy whose key is none.
func (w *watched) breakPolicy() {
	w.t.Helper()
	ns := w.namespace()
	w.enforcePolicy(ns, tekton.Authority{Name: "broken", Key: &tekton.KeyRef{Data: "no key"}})
}

// takeKey selects a signer whose KMS does not answer, until the end of the subtest.
func (w *watched) takeKey() {
	w.t.Helper()
	w.cleanup(func() error { return cluster.Configure(cleanupContext(), w.settings) })
	w.configure(with(w.settings, map[string]string{"artifacts.pipeline.signer": "kms", "signers.kms.kmsref": w.kms.reference()}))
	ns := w.namespaceLabelled(map[string]string{v1alpha1.SignLabel: "true", v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce})
	w.env.createPipeline(ns, "unsigned", "any")
}

// refuseConfig sets a signer that does not exist, until the end of the subtest.
func (w *watched) refuseConfig() {
	w.t.Helper()
	w.cleanup(func() error { return cluster.Configure(cleanupContext(), w.settings) })
	w.configure(with(w.settings, map[string]string{"artifacts.task.signer": "pgp"}))
	w.waitMetric("trustedresources_config_errors_total 1")
}

// loseRecords sets a file of the audit log that cannot be opened, until the end of the subtest.
func (w *watched) loseRecords() {
	w.t.Helper()
	noDirectory := filepath.Join(w.t.TempDir(), "file")
	w.check(os.WriteFile(noDirectory, nil, 0o600))
	w.cleanup(func() error { return cluster.Configure(cleanupContext(), w.settings) })
	w.configure(with(w.settings, map[string]string{
		"trustedresources.audit.sinks": "file", "trustedresources.audit.file": filepath.Join(noDirectory, "audit.log"),
	}))
	ns := w.namespace()
	w.createTask(newTask(ns, "unrecorded"))
	w.waitSigned(ns, "unrecorded")
}

// breakAdmission installs an admission policy with a name like ours that cannot be evaluated.
func (w *watched) breakAdmission() {
	w.t.Helper()
	ns := w.namespaceLabelled(map[string]string{"test.example.dev/admission": "broken"})
	const policy = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: broken.trustedresources.tekton.dev}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {matchLabels: {test.example.dev/admission: broken}}
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  validations: [{expression: "object.data['absent'] == 'x'"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: broken.trustedresources.tekton.dev}
spec: {policyName: broken.trustedresources.tekton.dev, validationActions: [Deny]}
`
	w.cleanup(func() error {
		_, err := cluster.RunKubectl(cleanupContext(), policy, "delete", "-f", "-")
		return err
	})
	w.kubectlApply(policy)
	w.eventually(soon, func() error {
		_, err := cluster.Kube.CoreV1().ConfigMaps(ns).Create(w.t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "refused-"}, Data: map[string]string{"any": "value"},
		}, metav1.CreateOptions{})
		if err == nil || !strings.Contains(err.Error(), "broken.trustedresources.tekton.dev") {
			return fmt.Errorf("the API server does not evaluate the policy yet: %w", orUnlimited(err))
		}
		return nil
	})
}

// revokeKey revokes a key that a policy still trusts: Tekton runs the Task, and the attestation
// says FAILED.
func (w *watched) revokeKey() {
	w.t.Helper()
	ns := w.namespace()
	w.createTask(newTask(ns, "build", buildsImage))
	w.waitSigned(ns, "build")
	w.enforcePolicy(ns, tekton.Authority{Name: "stolen", Key: &tekton.KeyRef{Data: w.publicKeyPEM()}})
	stolen := w.keyID()
	next, _, err := fixtures.X509Secret()
	w.check(err)
	next["revoked-1.pub"] = []byte(w.publicKeyPEM())
	w.check(next.Write(w.secretsDir))
	w.waitLogged(w.controller, "Key ring loaded", `"revoked":["`+stolen+`"]`)
	w.createTaskRun(ns, "run", &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, "build")})
	w.expectSuccess(w.waitDone(ns, "run"))
	w.waitMetric(`trustedresources_verification_differences_total{kind="TaskRun"} 1`)
}

// createRing signs with the key of a KeyRing until the end of the subtest.
func (w *watched) createRing() {
	w.t.Helper()
	key := w.newRingKey("first")
	w.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{key.spec()}})
	w.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive(key.name))
}

// expectPanels requires that each query of each panel had a value at some time.
func (w *watched) expectPanels(t *testing.T) {
	variables := strings.NewReplacer("$__rate_interval", "10s", "$__range", "10m", "trustedresources:signing_slow:ratio_rate1d", "trustedresources:signing_slow:ratio_rate1h")
	for file, panels := range w.panels() {
		for _, panel := range panels {
			for i, query := range panel.Targets {
				t.Run(fmt.Sprintf("%s/%s/%d", file, panel.Title, i), func(t *testing.T) {
					series, err := w.prometheus.QueryRange(t.Context(), variables.Replace(query.Expr), w.begun)
					if err != nil {
						t.Fatal(err)
					}
					if !hasValue(series) {
						t.Errorf("the panel shows nothing; the query is %s", query.Expr)
					}
				})
			}
		}
	}
}

func hasValue(series []harness.Series) bool {
	for _, s := range series {
		for _, value := range s.Values {
			if value != "NaN" {
				return true
			}
		}
	}
	return false
}

// expectGoodMetrics gives our metrics to promtool, and looks at the labels that Prometheus gave
// them.
func (w *watched) expectGoodMetrics(t *testing.T) {
	sub := w.in(t)
	metrics, err := httpGet(t.Context(), w.controller.MetricsURL)
	sub.check(err)
	ours := linesWith(metrics, "trustedresources_")
	if strings.Count(ours, "# HELP") < 10 {
		t.Errorf("the metrics have few help texts:\n%s", ours)
	}
	if err := w.promtool.Check(t.Context(), ours); err != nil {
		t.Error(err)
	}
	renamed, err := w.prometheus.QueryRange(t.Context(), `{__name__=~"trustedresources_.+", exported_namespace!=""}`, w.begun)
	sub.check(err)
	if len(renamed) > 0 {
		t.Errorf("%v has lost its label namespace to that of the target", renamed[0].Labels)
	}
	kept, err := w.prometheus.Query(t.Context(), `trustedresources_verification_failures_total{namespace="monitoring", resource_namespace!=""}`)
	sub.check(err)
	if len(kept) == 0 {
		t.Error("no series has the namespace of a target and that of a resource")
	}
}

// executeRunbook executes each block of commands of the runbook.
func (w *watched) executeRunbook(t *testing.T) {
	sub := w.in(t)
	page, err := os.ReadFile(filepath.Join(harness.Root(), "docs", "runbook.md"))
	sub.check(err)
	blocks := harness.ShellBlocks(string(page))
	if len(blocks) < 20 {
		t.Fatalf("the runbook has %d blocks of commands", len(blocks))
	}
	for _, block := range blocks {
		t.Run(fmt.Sprintf("%s/%d", block.Section, block.Line), func(t *testing.T) { w.in(t).bashIn(harness.Root(), block.Script) })
	}
}
