// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/base64"
	"fmt"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	resolution "github.com/tektoncd/pipeline/pkg/client/resolution/clientset/versioned"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// A run records the digest of a commit or of a bundle, not that of the content. If the
// content of the ResolutionRequest is replaced after the run began, the attestation must
// not say that the replacement ran.
func TestAttestation_RejectsReplacedContentOfResolver(t *testing.T) {
	m := startWithStatus(t)
	git, err := harness.StartGit(t.Context())
	m.check(err)
	m.cleanup(git.Close)
	for name, publish := range map[string]func(manifest []byte, task *v1.Task) v1.ResolverRef{
		"bundle": func(_ []byte, task *v1.Task) v1.ResolverRef {
			bundle, err := m.registry.PushBundle(t.Context(), task)
			m.check(err)
			return harness.BundleRef(bundle, resource.Task, task.Name)
		},
		"git": func(manifest []byte, _ *v1.Task) v1.ResolverRef {
			revision, err := git.Commit(t.Context(), "tasks/built.yaml", manifest)
			m.check(err)
			return git.Ref(revision, "tasks/built.yaml")
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := &matrix{env: m.sub(t), signer: m.signer, registry: m.registry}
			ns := m.namespaceLabelled(nil)
			m.createPolicies(ns, warned)
			ran, signed := newTask(ns, "built", buildsImage), newTask(ns, "built", buildsImage)
			ran.Spec.Steps[0].Script = "echo evil"
			ran.SetDefaults(t.Context())
			m.check(m.signer.Sign(t.Context(), signed))
			manifest, err := harness.Manifest(ran)
			m.check(err)
			ref := &v1.TaskRef{ResolverRef: publish(manifest, ran)}
			m.createTaskRun(ns, "honest", ref)
			m.expectVerifications(m.waitAttestation(ns, "honest", false, soon), "Task built FAILED Unsigned")

			m.createTaskRun(ns, "replaced", ref, lasting)
			m.waitUnderway(ns, "replaced")
			replacement, err := harness.Manifest(signed)
			m.check(err)
			m.replaceResolved(ns, "replaced", replacement)
			m.expectVerifications(m.waitAttestation(ns, "replaced", false, soon), "Task built SKIPPED ContentUnavailable")
		})
	}
}

// replaceResolved replaces the content that a resolver returned for a run.
func (e *env) replaceResolved(namespace, run string, content []byte) {
	e.t.Helper()
	client, err := resolution.NewForConfig(cluster.Admin)
	e.check(err)
	requests := client.ResolutionV1beta1().ResolutionRequests(namespace)
	e.eventually(soon, func() error {
		list, err := requests.List(e.t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, request := range list.Items {
			if request.OwnerReferences[0].Name == run {
				request.Status.Data = base64.StdEncoding.EncodeToString(content)
				_, err := requests.UpdateStatus(e.t.Context(), &request, metav1.UpdateOptions{})
				return err
			}
		}
		return fmt.Errorf("%s has no ResolutionRequest", run)
	})
}
