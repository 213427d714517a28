// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"regexp"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// A signature stays valid outside of the cluster: Tekton accepts the signed Task from a
// bundle, and refuses it after a byte has changed.
func TestSignature_HoldsInBundle(t *testing.T) {
	e := startController(t)
	registry := e.startRegistry()
	ref := func(task *v1.Task) v1.ResolverRef {
		bundle, err := registry.PushBundle(t.Context(), task)
		e.check(err)
		return harness.BundleRef(bundle, resource.Task, task.Name)
	}
	e.expectSignatureHolds(registry.Bundles(), registry.Bundles(), ref)
}

// A signature stays valid in a git repository, too.
func TestSignature_HoldsInGit(t *testing.T) {
	e := startController(t)
	git, err := harness.StartGit(t.Context())
	e.check(err)
	e.cleanup(git.Close)
	ref := func(task *v1.Task) v1.ResolverRef {
		manifest, err := harness.Manifest(task)
		e.check(err)
		revision, err := git.Commit(t.Context(), "tasks/build.yaml", manifest)
		e.check(err)
		return git.Ref(revision, "tasks/build.yaml")
	}
	e.expectSignatureHolds(git.URL(), "git+"+git.URL(), ref)
}

// startRegistry starts a registry that is stopped when the test ends.
func (e *env) startRegistry() *harness.Registry {
	e.t.Helper()
	registry, err := harness.StartRegistry(e.t.Context())
	e.check(err)
	e.cleanup(registry.Stop)
	return registry
}

// expectSignatureHolds gets a Task signed in one namespace and publishes it. In another
// namespace, with a policy for that source, Tekton runs the published Task.
func (e *env) expectSignatureHolds(source, uri string, publish func(*v1.Task) v1.ResolverRef) {
	home, away := e.namespace(), e.namespaceLabelled(nil)
	e.check(cluster.TrustFrom(e.t.Context(), away, regexp.QuoteMeta(source), e.public))
	e.createTask(newTask(home, "build"))
	signed := e.waitSigned(home, "build")

	e.t.Run("signed Task runs", func(t *testing.T) {
		e := e.sub(t)
		run := e.runTaskRef(away, v1.TaskRef{ResolverRef: publish(signed)})
		if c := run.Status.GetCondition(apis.ConditionSucceeded); !c.IsTrue() {
			t.Errorf("the run failed: %s: %s", c.Reason, c.Message)
		}
		if c := run.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified); !c.IsTrue() {
			t.Errorf("TrustedResourcesVerified is %+v, want True", c)
		}
		if got := run.Status.Provenance.RefSource.URI; got != uri {
			t.Errorf("the run recorded the source %s, want %s", got, uri)
		}
	})
	e.t.Run("changed Task is refused", func(t *testing.T) {
		e := e.sub(t)
		changed := signed.DeepCopy()
		changed.Spec.Steps[0].Script = "echo hellp"
		e.expectRefused(e.runTaskRef(away, v1.TaskRef{ResolverRef: publish(changed)}))
	})
}
