// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"path/filepath"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// Each block of docs/cluster-policies.md is executed, in the order of the page. The policies
// trust the controller's own key.
func TestClusterPolicyGuide_WorksBlockByBlock(t *testing.T) {
	r := startRuled(t)
	r.configure(with(withProvenance, signAll))
	const ns, vendor = "team-a", "vendor"
	for name, labels := range map[string]map[string]string{ns: {"team": "a", v1alpha1.SignLabel: "true"}, vendor: nil} {
		r.eventually(2*soon, func() error { // the test of another page has a namespace of this name
			_, err := cluster.Kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
			return err
		})
	}
	r.cleanup(func() error {
		_, unguarded := cluster.RunKubectl(cleanupContext(), "", "delete", "--ignore-not-found", "-f", filepath.Join(harness.Root(), "config", "materialize"))
		_, err := cluster.RunKubectl(cleanupContext(), "", "delete", "--ignore-not-found", "namespace/"+ns, "namespace/"+vendor,
			"cvp/signed-by-us", "cvp/signed-by-us-stage-1", "cvp/vendor-is-not-verified")
		return errors.Join(unguarded, err)
	})
	r.createTask(newTask(ns, "ours"))
	r.waitSigned(ns, "ours")
	r.createTask(newTask(vendor, "theirs"))
	theirs := &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, vendor, "theirs")}
	run := func(name string, ref *v1.TaskRef, starts bool) {
		t.Helper()
		r.createTaskRun(ns, name, ref)
		if done := r.waitDone(ns, name); starts {
			r.expectSuccess(done)
		} else {
			r.expectHeldBack(done, "Unsigned", "signed-by-us-stage-1")
		}
	}
	r.executePage("cluster-policies.md", []pageStep{
		{section: "Write one", after: func(output string) { r.expectText(output, "signed-by-us", "Override", "warn") }},
		{section: "Introduce it in stages", before: first(func() {
			run("warned", theirs, true)
			r.eventually(soon, func() error {
				p, err := r.policies.Get(t.Context(), "signed-by-us", metav1.GetOptions{})
				if err == nil && p.Status.Verdicts.Failed == 0 {
					err = errors.New("no verdict is counted yet")
				}
				return err
			})
		}), after: func(output string) { r.expectText(output, `"failed":1`, "warned") }},
		{section: "Introduce it in stages", after: func(string) {
			run("enforced", theirs, false)
			run("ours", &v1.TaskRef{Name: "ours"}, true)
		}},
		{section: "Make an exception", after: func(string) { run("excepted", theirs, true) }},
		{section: "Is it in force?", after: func(output string) { r.expectText(output, "Enforced=True InForce", "Ready=True") }},
		{section: "Let Tekton refuse, too", after: func(output string) {
			r.expectText(output, "cvp-signed-by-us-stage-1-", "^(?:(?s:.*))$", "BEGIN PUBLIC KEY")
			r.createTaskRun(ns, "by-tekton", theirs)
			r.expectRefused(r.waitDone(ns, "by-tekton"))
		}},
		{section: "End policies", after: func(string) {
			r.waitNoVerificationPolicy(ns, "signed-by-us-stage-1")
			r.createTaskRun(ns, "afterwards", theirs)
			r.expectSuccess(r.waitDone(ns, "afterwards"))
		}},
	})
}
