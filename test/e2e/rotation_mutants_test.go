// SPDX-License-Identifier: Apache-2.0

//go:build rotation

package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// danger is a situation in which a rotation has to wait. A controller that does not wait
// breaks runs.
type danger struct {
	size loadSize
	// happens rotates from one key to the other. A mutant does not wait where the
	// controller does.
	happens func(l *runLoad, api *harness.APIProxy, first, second ringKey, mutant bool)
	// without is the controller that does not wait.
	without harness.Mutant
	// breaks is a part of what the runs say then. It is empty if only the order of the steps
	// is wrong.
	breaks string
}

var dangers = map[string]danger{
	"policies that lack the new key": {
		size:    smallLoad,
		happens: policiesLackKey,
		without: harness.Mutant{File: "pkg/controllers/rotation/asking.go", Old: "if len(blocking) > 0 {", New: "if len(blocking) < 0 {"},
		breaks:  "ResourceVerificationFailed",
	},
	"Tekton has not seen the policies": {
		size:    smallLoad,
		happens: tektonIsBehind,
		without: harness.Mutant{File: "pkg/controllers/rotation/reconcile.go", Old: "err := c.canary.seen(ctx, next)", New: "var err error"},
		breaks:  "ResourceVerificationFailed",
	},
	"PipelineRuns go on": {
		size:    loadSize{namespaces: 4, tasksEach: 5, perSecond: 1, pipelineRuns: 8, serial: 5, lasting: 50 * time.Second},
		happens: runsGoOn,
		without: harness.Mutant{
			File: "pkg/controllers/rotation/open.go",
			Old:  "if run, ok := item.(run); ok && c.isOpen(run, before) {", New: "if run, ok := item.(run); ok && c.isOpen(run, time.Time{}) {",
		},
		breaks: "ResourceVerificationFailed",
	},
	// The Tasks of the load are signed again, so that a late attestation says PASSED all the
	// same. It would not for a bundle that a run has pinned.
	"runs are not attested": {
		size:    loadSize{namespaces: 4, tasksEach: 5, perSecond: 1, serial: 1},
		happens: attestationsAreLate,
		without: harness.Mutant{File: "pkg/controllers/rotation/open.go", Old: "return c.Attests(r.GetNamespace()) ||", New: "return c.Attests(r.GetNamespace()) && false && "},
	},
}

// An administrator replaces the key in a Secret that a policy names, instead of adding a
// Secret: Tekton reads no key of this policy until the Secret is back. The load has to see
// that, or its other results show nothing.
func TestRotation_LoadSeesAReplacedSecret(t *testing.T) {
	e := newEnv(t)
	first, second := e.newRingKey("first"), e.newRingKey("second")
	l := e.startRotationLoad(smallLoad, first)
	l.begin(second)
	l.trust(second)
	l.waitKeyRing(v1alpha1.DefaultKeyRing, whileBusy, isActive("second"))
	l.moreRuns(10)
	for _, ns := range l.namespaces {
		if ns.upkeep != secretKeys {
			continue
		}
		name := first.authority(e).Name
		e.check(cluster.Kube.CoreV1().Secrets(ns.name).Delete(t.Context(), name, metav1.DeleteOptions{}))
		l.moreRuns(40)
		ns.authority(e, ringKey{name: first.name, public: second.public})
	}
	if _, err := l.stop(); err == nil || !strings.Contains(err.Error(), " failed: ") {
		t.Errorf("got %v, want runs that failed", err)
	}
}

// In each danger, a rotation breaks no run. Without the check of the controller against
// the danger, the rotation does not wait, and runs break if they can: otherwise this test
// would show nothing.
func TestRotation_WaitsInDanger(t *testing.T) {
	for name, d := range dangers {
		t.Run(name, func(t *testing.T) {
			if err := d.run(t, false); err != nil {
				t.Error(err)
			}
		})
		t.Run(name+", without the check", func(t *testing.T) {
			withMutant(t, d.without)
			err := d.run(t, true)
			if (err != nil) != (d.breaks != "") || err != nil && !strings.Contains(err.Error(), d.breaks) {
				t.Errorf("got %v, want runs that say %q", err, d.breaks)
			}
		})
	}
}

// withMutant replaces the controller of the cluster until the test ends.
func withMutant(t *testing.T, m harness.Mutant) {
	t.Helper()
	binary, err := harness.BuildMutant(t.Context(), os.Stderr, t.TempDir(), m)
	if err != nil {
		t.Fatal(err)
	}
	original := cluster.Controller
	cluster.Controller = binary
	t.Cleanup(func() { cluster.Controller = original })
}

func (d danger) run(t *testing.T, mutant bool) error {
	t.Helper()
	e := newEnv(t)
	api, err := cluster.StartAPIProxy()
	e.check(err)
	e.cleanup(api.Stop)
	account, err := cluster.WriteKubeconfigOf(t.Context(), harness.SystemNamespace, harness.ServiceAccount)
	e.check(err)
	proxied, err := api.Kubeconfig(account, t.TempDir())
	e.check(err)
	first, second := e.newRingKey("first"), e.newRingKey("second")
	l := e.startRotationLoad(d.size, first, "--kubeconfig", proxied)
	d.happens(l, api, first, second, mutant)
	runs, err := l.stop()
	t.Logf("%d runs", runs)
	return err
}

// begin asks for the rotation to a key.
func (l *runLoad) begin(to ringKey) {
	l.t.Helper()
	l.changeKeyRing(v1alpha1.DefaultKeyRing, func(s *v1alpha1.KeyRingSpec) { s.Keys = append(s.Keys, to.spec()) })
}

// moreRuns waits until this number of TaskRuns has begun from now on.
func (l *runLoad) moreRuns(n int) {
	l.t.Helper()
	l.waitRuns(l.taskRuns() + n)
}

// waitBlocked waits until the rotation waits. A mutant goes on instead, and done says that
// it has.
func (l *runLoad) waitBlocked(within time.Duration, mutant bool, step keyring.Step, text string, done func(*v1alpha1.KeyRingStatus) error) {
	l.t.Helper()
	wanted := isBlocked(step, text)
	if mutant {
		wanted = done
	}
	l.waitKeyRing(v1alpha1.DefaultKeyRing, within, wanted)
}

func policiesLackKey(l *runLoad, _ *harness.APIProxy, _, second ringKey, mutant bool) {
	l.begin(second)
	l.waitBlocked(whileBusy, mutant, keyring.Activating, "trust another key and not key", isActive("second"))
	l.moreRuns(60)
	l.trust(second)
	l.waitKeyRing(v1alpha1.DefaultKeyRing, whileBusy, isActive("second"))
	l.moreRuns(10)
}

func tektonIsBehind(l *runLoad, api *harness.APIProxy, _, second ringKey, mutant bool) {
	undo, err := api.Redirect(l.t.Context(), cluster)
	l.cleanup(func() error { return undo(cleanupContext()) })
	l.check(err)
	l.moreRuns(10)
	api.Freeze(harness.WatchesOf("verificationpolicies"))
	l.begin(second)
	l.waitKeyRing(v1alpha1.DefaultKeyRing, soon, func(status *v1alpha1.KeyRingStatus) error { return hasState("second", v1alpha1.KeyPending)(status) })
	l.trust(second)
	l.moreRuns(120 * l.size.perSecond) // two minutes
	if ring, err := l.keyRings().Get(l.t.Context(), v1alpha1.DefaultKeyRing, metav1.GetOptions{}); err != nil || (ring.Status.Active == "second") != mutant {
		l.t.Errorf("got %v and active key %s, while Tekton has not seen that policies trust the second", err, ring.Status.Active)
	}
	api.Thaw()
	l.waitKeyRing(v1alpha1.DefaultKeyRing, harness.TimeLimit(5*time.Minute), isActive("second"))
	l.moreRuns(10)
}

func runsGoOn(l *runLoad, _ *harness.APIProxy, first, second ringKey, mutant bool) {
	l.moreRuns(3) // and the PipelineRuns have begun
	l.begin(second)
	l.trust(second)
	l.waitKeyRing(v1alpha1.DefaultKeyRing, whileBusy, isActive("second"))
	l.waitBlocked(harness.TimeLimit(4*time.Minute), mutant, keyring.Drain, "are not done and attested", isRotated)
	l.waitKeyRing(v1alpha1.DefaultKeyRing, harness.TimeLimit(5*time.Minute), isRotated)
	l.distrust(first)
}

// attestationsAreLate holds back the controller's own view of the runs.
func attestationsAreLate(l *runLoad, api *harness.APIProxy, first, second ringKey, mutant bool) {
	api.Freeze(harness.WatchesOf("taskruns"))
	l.moreRuns(10)
	l.begin(second)
	l.trust(second)
	l.waitKeyRing(v1alpha1.DefaultKeyRing, whileBusy, isActive("second"))
	l.waitBlocked(harness.TimeLimit(4*time.Minute), mutant, keyring.Drain, "are not done and attested", isRotated)
	if mutant {
		l.distrust(first)
		l.moreRuns(5)
	}
	api.Thaw()
	l.waitKeyRing(v1alpha1.DefaultKeyRing, harness.TimeLimit(5*time.Minute), isRotated)
	l.distrust(first)
}
