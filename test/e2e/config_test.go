// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
	"github.com/trusted-resources/chains-extension/test/harness"
)

func countLines(text, with string) int {
	n := 0
	for line := range strings.Lines(text) {
		if strings.Contains(line, with) {
			n++
		}
	}
	return n
}

func TestNamespaceLabel_OptsInAndOut(t *testing.T) {
	e := startController(t)
	ns, other := e.namespaceLabelled(nil), e.namespace()
	e.canary = other
	// settled waits until the controller has handled all earlier changes: it signs
	// another Task.
	settled := func(name string) {
		e.createTask(newTask(other, name))
		e.waitSigned(other, name)
	}
	unsigned := func(name string) {
		t.Helper()
		if got := e.getTask(ns, name); signature(got) != "" {
			t.Errorf("Task %s is signed, want no signature", name)
		}
	}

	e.createTask(newTask(ns, "early"))
	settled("a")
	unsigned("early")

	e.labelNamespace(ns, "true")
	e.waitSigned(ns, "early")

	e.labelNamespace(ns, "false")
	e.waitOptedOut(ns)
	e.createTask(newTask(ns, "late"))
	settled("c")
	unsigned("late")

	e.labelNamespace(ns, "")
	e.configure(with(signAll, map[string]string{"trustedresources.namespaces": "all"}))
	e.waitSigned(ns, "late")

	e.labelNamespace(ns, "yes") // not a valid value
	e.waitOptedOut(ns)
	e.createTask(newTask(ns, "unknown"))
	settled("e")
	unsigned("unknown")
}

// waitOptedOut waits until new Tasks of a namespace are not signed. The controller
// gets Namespaces and Tasks from two watches, in no particular order.
func (e *env) waitOptedOut(namespace string) {
	e.t.Helper()
	probe := func(t *v1.Task) { t.GenerateName = "probe-" }
	e.eventually(soon, func() error {
		left := e.createTask(newTask(namespace, "", probe))
		e.waitSigned(e.canary, e.createTask(newTask(e.canary, "", probe)).Name)
		if signature(e.getTask(namespace, left.Name)) != "" {
			return fmt.Errorf("Task %s in the opted-out namespace %s is signed", left.Name, namespace)
		}
		return nil
	})
}

func TestConfig_KeepsLastGoodWhenNewOneIsInvalid(t *testing.T) {
	e := startController(t)
	ns := e.namespace()
	e.createTask(newTask(ns, "before"))
	e.waitSigned(ns, "before")
	for name, tc := range map[string]struct{ key, value, says string }{
		"unknown signer":           {"artifacts.task.signer", "pgp", `found "pgp", expected one of: none, x509, kms`},
		"unknown storage":          {"artifacts.pipeline.storage", "floppy", `found "floppy"`},
		"misspelled key":           {"artifacts.stepaction.singer", "x509", "unknown key"},
		"invalid format of Chains": {"artifacts.taskrun.format", "odd", "odd"},
	} {
		t.Run(name, func(t *testing.T) {
			e := e.sub(t)
			// If this configuration were used, the signer "none" would stop the signing.
			e.configure(map[string]string{"artifacts.task.signer": "none", tc.key: tc.value})
			cm, err := cluster.Kube.CoreV1().ConfigMaps(harness.SystemNamespace).Get(t.Context(), harness.ConfigMap, metav1.GetOptions{})
			e.check(err)
			e.waitEvent(cm, v1alpha1.ReasonConfigRefused, tc.says)
			e.waitLogged(e.controller, "Configuration refused", strings.ReplaceAll(tc.says, `"`, `\"`))
			resource := strings.ToLower(strings.ReplaceAll(name, " ", "-"))
			e.createTask(newTask(ns, resource))
			e.waitSigned(ns, resource)
		})
	}
	// A valid configuration is used again.
	e.configure(map[string]string{"artifacts.task.signer": "none"})
	e.waitLogged(e.controller, "Configuration loaded", `"signers":[]`)
	e.createTask(newTask(ns, "off"))
	e.expectNoWrites(ns, 2*time.Second)
}

func TestConfig_SignsNothingWhenInvalidAtStart(t *testing.T) {
	e := newEnv(t)
	ns := e.namespace()
	e.configure(with(signAll, map[string]string{"artifacts.task.signer": "pgp"}))
	e.createTask(newTask(ns, "waits"))
	e.controller = e.addReplica("controller")
	e.waitLogged(e.controller, "Configuration refused", "pgp")
	if got := e.getTask(ns, "waits"); signature(got) != "" {
		t.Error("the Task is signed although there is no valid configuration")
	}
	e.configure(signAll)
	e.waitSigned(ns, "waits")
}

// The checksums of older Tekton releases are not known. The controller then signs nothing
// and names the release. After an upgrade of Tekton the controller signs.
func TestController_SignsNothingOnOldTekton(t *testing.T) {
	e := newEnv(t)
	ns := e.namespace()
	current := e.setRelease("v1.5.0")
	defer e.setRelease(current)
	e.controller = e.addReplica("controller")
	created := e.createTask(newTask(ns, "waits"))
	e.waitEvent(created, v1alpha1.ReasonTektonTooOld, "v1.5.0", "v1.6.0")
	e.waitLogged(e.controller, "Nothing is signed", "v1.5.0")
	if got := e.getTask(ns, "waits"); signature(got) != "" {
		t.Error("the Task is signed although Tekton is too old")
	}
	e.setRelease(current)
	e.waitSigned(ns, "waits")
}

// Another release may compute another checksum, so nothing is signed for a release that
// cannot be read.
func TestController_SignsNothingWithoutRightToReadTheRelease(t *testing.T) {
	const informerRetries = time.Minute // client-go waits for up to 30 s between two attempts
	e := newEnv(t)
	ns := e.namespace()
	e.removeRoleBinding(tekton.DefaultNamespace, "tekton-pipelines-info") // Tekton lets all users get the ConfigMap
	grant := e.removeRoleBinding(tekton.DefaultNamespace, "tekton-chains-pipelines-info")
	e.waitMayGet("configmaps", tekton.DefaultNamespace, tekton.InfoConfigMap, false)
	e.controller = e.addReplica("controller")
	created := e.createTask(newTask(ns, "waits"))
	e.waitEvent(created, v1alpha1.ReasonTektonUnknown, "pipelines-info", "forbidden")
	if got := e.getTask(ns, "waits"); signature(got) != "" {
		t.Error("the Task is signed although the release of Tekton is not known")
	}
	e.check(grant())
	e.eventually(informerRetries, func() error { return harness.Verify(t.Context(), e.getTask(ns, "waits"), e.public) })
}

// removeRoleBinding removes a RoleBinding until the test ends, or until restore is called.
func (e *env) removeRoleBinding(namespace, name string) (restore func() error) {
	e.t.Helper()
	bindings := cluster.Kube.RbacV1().RoleBindings(namespace)
	binding, err := bindings.Get(e.t.Context(), name, metav1.GetOptions{})
	e.check(err)
	e.check(bindings.Delete(e.t.Context(), name, metav1.DeleteOptions{}))
	binding.ResourceVersion, binding.UID = "", ""
	restore = func() error {
		_, err := bindings.Create(cleanupContext(), binding, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	}
	e.cleanup(restore)
	return restore
}

// setRelease changes the release that Tekton publishes, and returns the one before.
func (e *env) setRelease(version string) string {
	e.t.Helper()
	info := cluster.Kube.CoreV1().ConfigMaps("tekton-pipelines")
	before, err := info.Get(cleanupContext(), "pipelines-info", metav1.GetOptions{})
	e.check(err)
	_, err = info.Patch(cleanupContext(), "pipelines-info", types.MergePatchType, []byte(`{"data":{"version":"`+version+`"}}`), metav1.PatchOptions{})
	e.check(err)
	return before.Data["version"]
}

// When another release of Tekton is installed that computes other checksums, the
// controller signs for that release, without a change of the resources. make matrix has
// the test with Tekton itself.
func TestController_SignsAgainForAnotherTekton(t *testing.T) {
	e := startController(t)
	ns := e.namespace()
	created := e.createTask(newTask(ns, "build"))
	first := signature(e.waitSigned(ns, "build"))
	ring, err := keys.NewVerifyingRing(e.public)
	e.check(err)
	current := e.setRelease("v1.9.3")
	defer e.setRelease(current)
	e.eventually(soon, func() error {
		task := e.getTask(ns, "build")
		summary := e.summarize(task)
		if ring.Find(summary.Signature, summary.Checksums.In(tekton.NullTimestamps)) == nil {
			return fmt.Errorf("the signature is not for Tekton v1.9.3: %s", signature(task))
		}
		return nil
	})
	e.waitEvent(created, v1alpha1.ReasonSignedAgain, "another release of Tekton")
	e.setRelease(current)
	if again := signature(e.waitSigned(ns, "build")); again == first {
		t.Error("the first signature came back")
	}
}
