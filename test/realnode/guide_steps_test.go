// SPDX-License-Identifier: Apache-2.0

//go:build realnode

package realnode

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	ours "github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// team is the namespace of a user in the guide, and build a Task of the user.
const (
	team  = "team-a"
	build = "build"
)

// step says what a reader does before a block of the guide, and what is true after it.
type step struct {
	section, name string
	before        func(*guide)
	after         func(g *guide, output string)
	done          bool
}

func (g *guide) steps() []step {
	const (
		enforcement = "4. Enforcement"
		rotation    = "Rotate the key"
		revocation  = "Revoke a key"
		secrets     = "Limit the Secrets that the controller reads"
	)
	return []step{
		{section: "1. The controller", name: "install", before: (*guide).installStockRoles, after: (*guide).isReady},
		{section: "1. The controller", name: "delete the roles of Chains"},
		{section: "1. The controller", name: "give a token for Fulcio", after: (*guide).hasFulcioToken},
		{section: "2. A key", name: "make a key", after: (*guide).readKey},
		{section: "3. Signing", name: "sign", before: (*guide).createTeam, after: (*guide).isSigned},
		{section: "3. Signing", name: "look at the signature", before: (*guide).hasEventOfSignature, after: (*guide).showsSignature},
		{section: enforcement, name: "create a policy that warns"},
		{section: enforcement, name: "run the Task", after: (*guide).runIsVerified},
		{section: enforcement, name: "enforce", after: (*guide).changedTaskIsRefused},
		{section: enforcement, name: "verify local references", after: (*guide).localReferencesGetResolver},
		{section: enforcement, name: "wait for the gate"},
		{section: enforcement, name: "hold what is not verified", after: (*guide).onlyVerifiedRunsStart},
		{section: rotation, name: "make another key", before: (*guide).removeKeyFiles, after: (*guide).trustBothKeys},
		{section: rotation, name: "replace the key", after: (*guide).isSignedAgain},
		{section: revocation, name: "revoke the key", before: (*guide).makeThirdKey, after: (*guide).reportsRevokedKey},
		{section: revocation, name: "sign again", after: (*guide).isSignedAgain},
		{section: secrets, name: "limit the Secrets", after: (*guide).isReady},
		{section: "Upgrade", name: "upgrade", before: (*guide).beginLoad, after: (*guide).loadIsSigned},
		{section: "Upgrade", name: "roll back", after: (*guide).rolledBack},
		{section: "Uninstall", name: "delete the policies"},
		{section: "Uninstall", name: "delete the controller"},
		{section: "Uninstall", name: "remove the finalizers", before: (*guide).hasFinalizers, after: (*guide).nothingBlocks},
	}
}

// installStockRoles creates the ClusterRoles of an installed Chains.
func (g *guide) installStockRoles() {
	g.kubectl("create", "namespace", harness.SystemNamespace)
	g.kubectl("apply", "-f", filepath.Join(g.chainsModule(), "config", "100-rolebinding.yaml"), "-l", "app.kubernetes.io/part-of=tekton-chains")
}

func (e env) chainsModule() string {
	e.t.Helper()
	dir, err := harness.ModuleDir(e.t.Context(), harness.ModuleChains)
	e.check(err)
	return dir
}

func (g *guide) isReady(output string) {
	g.t.Helper()
	if strings.Contains(output, "would violate PodSecurity") {
		g.t.Errorf("the Pods do not fulfil the Pod Security level of their namespace:\n%s", output)
	}
	g.waitReady()
}

func (g *guide) hasFulcioToken(string) {
	g.t.Helper()
	g.waitReady()
	for _, pod := range g.pods() {
		if !hasVolume(pod, "oidc-info") {
			g.t.Errorf("Pod %s has no token for Fulcio", pod.Name)
		}
	}
}

func hasVolume(pod corev1.Pod, name string) bool {
	for _, volume := range pod.Spec.Volumes {
		if volume.Name == name {
			return true
		}
	}
	return false
}

// readKey makes the key in cosign.pub the current one.
func (g *guide) readKey(string) {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, "cosign.pub"))
	g.check(err)
	installed.public, err = cryptoutils.UnmarshalPEMToPublicKey(text)
	g.check(err)
}

func (g *guide) createTeam() {
	g.t.Helper()
	g.kubectl("create", "namespace", team)
	g.createTask(task(team, build, "true"))
}

func (g *guide) isSigned(string) {
	g.t.Helper()
	g.waitSigned(team, build, afterKubelet) // the key is new
}

func (g *guide) isSignedAgain(string) {
	g.t.Helper()
	g.readKey("")
	g.isSigned("")
}

func (g *guide) showsSignature(output string) {
	g.t.Helper()
	task, err := cluster.Tekton.TektonV1().Tasks(team).Get(g.t.Context(), build, metav1.GetOptions{})
	g.check(err)
	for _, want := range []string{"ResourceSigned", task.Annotations[trustedresources.SignatureAnnotation]} {
		if !strings.Contains(output, want) {
			g.t.Errorf("the output lacks %q:\n%s", want, output)
		}
	}
}

func (g *guide) runIsVerified(string) {
	g.t.Helper()
	g.eventually(afterStart, func() error {
		runs, err := cluster.Tekton.TektonV1().TaskRuns(team).List(g.t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		run := &runs.Items[0]
		if !succeeded(run).IsTrue() || !run.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified).IsTrue() {
			return fmt.Errorf("TaskRun %s: %+v", run.Name, run.Status.Conditions)
		}
		return nil
	})
}

// changedTaskIsRefused runs a Task without a signature. A Task that changes while the
// controller does not run has no valid signature either.
func (g *guide) changedTaskIsRefused(string) {
	g.t.Helper()
	if run := g.runTask(team, build); !succeeded(run).IsTrue() {
		g.t.Errorf("the run of the signed Task: %+v", run.Status.Conditions)
	}
	g.check(cluster.Label(g.t.Context(), team, "false"))
	g.createTask(task(team, "unsigned", "true"))
	run := g.runTask(team, "unsigned")
	if condition := succeeded(run); condition.Reason != refused {
		g.t.Errorf("the run of the unsigned Task: %s: %s, want it refused with %s", condition.Reason, condition.Message, refused)
	}
	g.check(cluster.Label(g.t.Context(), team, "true"))
}

func (g *guide) localReferencesGetResolver(string) {
	g.t.Helper()
	g.eventually(soon, func() error {
		run, err := cluster.Tekton.TektonV1().TaskRuns(team).Create(g.t.Context(), &v1.TaskRun{
			ObjectMeta: metav1.ObjectMeta{Namespace: team, GenerateName: "dry-run-"},
			Spec:       v1.TaskRunSpec{TaskRef: &v1.TaskRef{Name: build}},
		}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && run.Spec.TaskRef.Resolver != "cluster" {
			err = fmt.Errorf("a local reference has resolver %q", run.Spec.TaskRef.Resolver)
		}
		return err
	})
}

// onlyVerifiedRunsStart runs the signed Task, and a spec that nobody has signed.
func (g *guide) onlyVerifiedRunsStart(string) {
	g.t.Helper()
	if run := g.runTask(team, build); !succeeded(run).IsTrue() {
		g.t.Errorf("the run of the signed Task: %+v", run.Status.Conditions)
	}
	inline, err := cluster.Run(g.t.Context(), &v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: team, GenerateName: "inline-"}, Spec: v1.TaskRunSpec{TaskSpec: &task(team, "inline", "true").Spec},
	}, afterStart)
	g.check(err)
	if condition := succeeded(inline); !condition.IsFalse() || !strings.Contains(condition.Message, "Refused by "+ours.Group) {
		g.t.Errorf("the run of a spec: %s %s: %s, want it refused by the gate", condition.Status, condition.Reason, condition.Message)
	}
}

// removeKeyFiles removes what an earlier step may have left, so that cosign does not ask.
func (g *guide) removeKeyFiles() {
	for _, name := range []string{"cosign.key", "cosign.password"} {
		_ = os.Remove(filepath.Join(g.dir, name)) // there may be none
	}
}

// trustBothKeys adds the new key as a second authority.
func (g *guide) trustBothKeys(string) {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, "cosign.pub"))
	g.check(err)
	policies := cluster.Tekton.TektonV1alpha1().VerificationPolicies(team)
	policy, err := policies.Get(g.t.Context(), "signed-in-this-cluster", metav1.GetOptions{})
	g.check(err)
	policy.Spec.Authorities = append(policy.Spec.Authorities, v1alpha1.Authority{Name: "next", Key: &v1alpha1.KeyRef{Data: string(text)}})
	_, err = policies.Update(g.t.Context(), policy, metav1.UpdateOptions{})
	g.check(err)
}

func (g *guide) makeThirdKey() {
	g.t.Helper()
	g.removeKeyFiles()
	g.bash(`mv cosign.pub old-cosign.pub; printf %s "$COSIGN_PASSWORD" > cosign.password; cosign generate-key-pair`)
}

// reportsRevokedKey waits for the Event about the Task, whose signature is of the key.
func (g *guide) reportsRevokedKey(string) { g.waitEvent(ours.ReasonKeyRevoked) }

// hasEventOfSignature waits for the Event, which comes after the signature.
func (g *guide) hasEventOfSignature() { g.waitEvent(ours.ReasonSigned) }

// waitEvent waits for an Event about the Task.
func (g *guide) waitEvent(reason string) {
	g.t.Helper()
	g.eventually(afterKubelet, func() error {
		events, err := cluster.Kube.CoreV1().Events(team).List(g.t.Context(), metav1.ListOptions{FieldSelector: "reason=" + reason + ",involvedObject.name=" + build})
		if err == nil && len(events.Items) == 0 {
			err = fmt.Errorf("no Event %s for Task %s/%s", reason, team, build)
		}
		return err
	})
}

// beginLoad changes the Deployment, so that the upgrade replaces the Pods: the image is
// the same.
func (g *guide) beginLoad() {
	g.t.Helper()
	g.load = g.startLoad(team)
	g.kubectl("-n", harness.SystemNamespace, "patch", "deployment", deployment, "--type", "merge", "-p",
		`{"spec":{"template":{"metadata":{"annotations":{"example.dev/upgrade":"`+time.Now().Format(time.RFC3339)+`"}}}}}`)
}

func (g *guide) loadIsSigned(string) {
	g.t.Helper()
	names := g.load.stop()
	for _, name := range names {
		g.waitSigned(team, name, time.Minute)
	}
	g.hasFulcioToken("") // the patch was kept
}

func (g *guide) rolledBack(string) {
	g.t.Helper()
	g.waitReady()
	_, err := cluster.Tekton.TektonV1().Tasks(team).Patch(g.t.Context(), build, types.MergePatchType,
		[]byte(`{"spec":{"description":"changed after the rollback"}}`), metav1.PatchOptions{})
	g.check(err)
	g.isSigned("")
}

// hasFinalizers makes sure that the step has something to do.
func (g *guide) hasFinalizers() {
	g.t.Helper()
	runs, err := cluster.Tekton.TektonV1().TaskRuns(team).List(g.t.Context(), metav1.ListOptions{})
	g.check(err)
	for _, run := range runs.Items {
		if len(run.Finalizers) > 0 {
			return
		}
	}
	g.t.Errorf("none of %d TaskRuns has a finalizer", len(runs.Items))
}
