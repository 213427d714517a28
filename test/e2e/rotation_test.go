// SPDX-License-Identifier: Apache-2.0

//go:build rotation

package e2e

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// smallLoad is a load for tests of minutes.
var smallLoad = loadSize{namespaces: 8, tasksEach: 5, perSecond: 3, pipelineRuns: 4, serial: 5, lasting: 8 * time.Second}

// whileBusy is the time for a step that waits for Tekton's controller under a load: a canary
// has two minutes, and may need a second attempt.
var whileBusy = harness.TimeLimit(5 * time.Minute)

// A key becomes active when every policy that trusts the old key trusts the new one, and
// the old key is retired when nothing needs it. No run is refused meanwhile.
func TestRotation_RefusesNoRun(t *testing.T) {
	e := newEnv(t)
	first, second := e.newRingKey("first"), e.newRingKey("second")
	l := e.startRotationLoad(smallLoad, first)
	l.rotate(first, second)
	l.waitRuns(300) // fewer show little
	runs, err := l.stop()
	t.Logf("%d runs", runs)
	e.check(err)
}

// startRotationLoad starts a controller with a KeyRing, whose first key is active, and a load.
// The flags are those of the controllers.
func (e *env) startRotationLoad(size loadSize, first ringKey, flags ...string) *runLoad {
	e.t.Helper()
	e.configure(with(signAll, withProvenance))
	e.injectKeys()
	e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{
		Keys:     []v1alpha1.RingKey{first.spec()},
		Rotation: v1alpha1.RotationSpec{QuietPeriod: &metav1.Duration{}},
	})
	e.controller = e.addReplica("controller", flags...)
	e.addReplica("another", flags...)
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive(first.name))
	return e.startLoad(size, first)
}

// rotate rotates from one key to another, and logs how long the steps took.
func (l *runLoad) rotate(from, to ringKey) {
	l.t.Helper()
	began := time.Now()
	after := func() time.Duration { return time.Since(began).Round(100 * time.Millisecond) }
	l.changeKeyRing(v1alpha1.DefaultKeyRing, func(s *v1alpha1.KeyRingSpec) { s.Keys = append(s.Keys, to.spec()) })
	l.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isBlocked(keyring.Activating, "VerificationPolicies trust another key"))
	l.trust(to)
	l.t.Logf("%s to %s: policies have the key after %v", from.name, to.name, after())
	l.waitKeyRing(v1alpha1.DefaultKeyRing, whileBusy, isActive(to.name))
	activated := time.Now()
	l.t.Logf("%s to %s: active after %v", from.name, to.name, after())
	l.waitKeyRing(v1alpha1.DefaultKeyRing, harness.TimeLimit(3*time.Minute), hasSigned(from.name, 0))
	l.t.Logf("%s to %s: %d resources signed again %v after that", from.name, to.name,
		len(l.namespaces)*(l.size.tasksEach+1), time.Since(activated).Round(100*time.Millisecond))
	last := time.Duration(l.size.serial) * l.size.lasting
	l.waitKeyRing(v1alpha1.DefaultKeyRing, harness.TimeLimit(4*time.Minute+2*last), isRotated)
	l.t.Logf("%s to %s: retired and untrusted after %v", from.name, to.name, after())
	l.distrust(from)
	l.public = to.public
	l.waitSigned(l.namespaces[0].name, taskName(0))
}

func hasSigned(key string, resources int64) func(*v1alpha1.KeyRingStatus) error {
	return func(status *v1alpha1.KeyRingStatus) error {
		if found := keyring.StatusOf(status, key); found == nil || found.Signed != resources {
			return fmt.Errorf("key %q has signed %+v, want %d resources", key, found, resources)
		}
		return nil
	}
}

func isRotated(status *v1alpha1.KeyRingStatus) error {
	if !meta.IsStatusConditionTrue(status.Conditions, v1alpha1.KeyRingRotated) {
		return fmt.Errorf("the ring is not rotated")
	}
	return nil
}
