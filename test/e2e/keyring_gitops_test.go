// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/yaml"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// gitOps are the ways in which GitOps tools write a manifest again.
var gitOps = map[string]func(ctx context.Context, manifest *tekton.VerificationPolicy) error{
	"server-side apply": func(ctx context.Context, manifest *tekton.VerificationPolicy) error {
		content, err := yaml.Marshal(manifest)
		if err != nil {
			return err
		}
		force := true
		_, err = cluster.Tekton.TektonV1alpha1().VerificationPolicies(manifest.Namespace).Patch(ctx, manifest.Name, types.ApplyPatchType, content,
			metav1.PatchOptions{FieldManager: "gitops", Force: &force})
		return err
	},
	"update": func(ctx context.Context, manifest *tekton.VerificationPolicy) error {
		policies := cluster.Tekton.TektonV1alpha1().VerificationPolicies(manifest.Namespace)
		// The controller may inject a key between the two requests.
		return retry.RetryOnConflict(retry.DefaultRetry, func() error {
			found, err := policies.Get(ctx, manifest.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			next := manifest.DeepCopy()
			next.ResourceVersion = found.ResourceVersion
			_, err = policies.Update(ctx, next, metav1.UpdateOptions{})
			return err
		})
	},
}

// A GitOps tool writes a policy again and again as it is in Git: with the first key only.
// The rotation reaches the second key, and no run is refused.
func TestKeyRing_KeepsInjectedKeysThatGitOpsReverts(t *testing.T) {
	for name, apply := range gitOps {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.injectKeys()
			e.applyConfig("injection/gitops")
			first, second := e.newRingKey("first"), e.newRingKey("second")
			e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{first.spec()}})
			e.controller = e.addReplica("controller")
			ns := e.namespace()
			e.createTask(newTask(ns, "rotated"))
			e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("first"))
			e.public = first.public
			e.waitSigned(ns, "rotated")
			manifest := manifestOf(e.injected(e.enforcePolicy(ns, first.authority(e))))
			e.waitAuthorities(manifest, first.public, first.public)

			stopGitOps, stopRuns := e.keepApplying(manifest, apply), e.keepRunning(ns, "rotated")
			e.changeKeyRing(v1alpha1.DefaultKeyRing, func(s *v1alpha1.KeyRingSpec) { s.Keys = append(s.Keys, second.spec()) })
			e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("second"))
			e.public = second.public
			e.waitSigned(ns, "rotated")
			e.expectNoWrites(ns, 10*time.Second) // runs go on meanwhile
			stopRuns()
			stopGitOps()
			e.waitAuthorities(manifest, first.public, first.public, second.public)
		})
	}
}

// Who writes a policy decides about everything but the injected keys, and about these by
// taking the annotation away.
func TestKeyRing_KeepsOnlyInjectedKeys(t *testing.T) {
	e := newEnv(t)
	e.injectKeys()
	e.applyConfig("injection/gitops")
	ns := e.namespace()
	own, injected, removed := e.newRingKey("own").authority(e), e.newRingKey("injected").authority(e), e.newRingKey("removed").authority(e)
	injected.Name, removed.Name = "keyring-0123456789ab", "keyring-ba9876543210"
	policy := e.injected(e.enforcePolicy(ns, own, injected))
	other := own
	other.Name = "other"
	for name, tc := range map[string]struct {
		annotations map[string]string
		write, want []tekton.Authority
	}{
		"without the key":          {policy.Annotations, []tekton.Authority{own}, []tekton.Authority{own, injected}},
		"with a key that was lost": {policy.Annotations, []tekton.Authority{own, injected, removed}, []tekton.Authority{own, injected}},
		"with another authority":   {policy.Annotations, []tekton.Authority{other}, []tekton.Authority{other, injected}},
		"without the annotation":   {nil, []tekton.Authority{own}, []tekton.Authority{own}},
	} {
		t.Run(name, func(t *testing.T) {
			e := e.sub(t)
			next := policy.DeepCopy()
			next.Annotations, next.Spec.Authorities = tc.annotations, tc.write
			e.eventually(soon, func() error { // the API server needs a moment to use a new policy
				got, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).
					Update(t.Context(), next, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
				if err == nil && !equality.Semantic.DeepEqual(got.Spec.Authorities, tc.want) {
					err = fmt.Errorf("got %+v, want %+v", got.Spec.Authorities, tc.want)
				}
				return err
			})
		})
	}
}

// manifestOf returns a policy as it is in Git.
func manifestOf(policy *tekton.VerificationPolicy) *tekton.VerificationPolicy {
	return &tekton.VerificationPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "tekton.dev/v1alpha1", Kind: "VerificationPolicy"},
		ObjectMeta: metav1.ObjectMeta{Namespace: policy.Namespace, Name: policy.Name, Annotations: policy.Annotations},
		Spec:       policy.Spec,
	}
}

// keepApplying applies a manifest every second until the returned function is called.
func (e *env) keepApplying(manifest *tekton.VerificationPolicy, apply func(context.Context, *tekton.VerificationPolicy) error) (stop func()) {
	ctx, cancel := context.WithCancel(e.t.Context())
	ended := make(chan error, 1)
	applied := 0
	go func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			if err := apply(ctx, manifest); err != nil && ctx.Err() == nil {
				ended <- fmt.Errorf("applying policy %s: %w", manifest.Name, err)
				return
			}
			applied++
			select {
			case <-ticker.C:
			case <-ctx.Done():
				ended <- nil
				return
			}
		}
	}()
	return func() {
		e.t.Helper()
		cancel()
		e.check(<-ended)
		e.t.Logf("applied %d times", applied)
	}
}

// keepRunning starts three runs of a Task every second until the returned function is
// called, which fails the test if one of them has failed.
func (e *env) keepRunning(namespace, task string) (stop func()) {
	const perSecond = 3
	ctx, cancel := context.WithCancel(e.t.Context())
	counts, failed := make(chan int, perSecond), make(chan error, perSecond)
	for range perSecond {
		go func() {
			runs := 0
			failed <- wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
				run, err := cluster.RunTask(ctx, namespace, task, nil, soon)
				if err == nil && !run.IsSuccessful() {
					err = fmt.Errorf("run %s: %v", run.Name, run.Status.Conditions)
				}
				runs++
				return false, err
			})
			counts <- runs
		}()
	}
	return func() {
		e.t.Helper()
		cancel()
		runs := 0
		for range perSecond {
			if err := <-failed; !errors.Is(err, context.Canceled) {
				e.t.Error(err)
			}
			runs += <-counts
		}
		e.t.Logf("%d runs", runs)
	}
}
