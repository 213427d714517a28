// SPDX-License-Identifier: Apache-2.0

//go:build rotation

package e2e

import (
	"crypto"
	"fmt"
	"strconv"
	"testing"
	"time"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// manyKills is the time limit for a step of all rings with a kill in each of them.
const manyKills = 20 * time.Minute

// rotated is a ring that rotates again and again.
type rotated struct {
	name, namespace string
	policy          *tekton.VerificationPolicy
	own             crypto.PublicKey // of the owner of the policy
	keys            []ringKey
}

// The leader is killed 20 times after each of the eight steps of a rotation, in 20 rings
// that rotate at the same time. Each ring gets to its target, one key at a time is active,
// and nothing is signed with another one.
//
// With -short, there are 4 rings, and 2 kills after each step.
func TestRotation_EndsAfterEachKill(t *testing.T) {
	const tasks, maxRounds = 5, 4
	count, kills := 20, 20
	if testing.Short() {
		count, kills = 4, 2
	}
	e := newEnv(t)
	e.injectKeys()
	e.hurryLeases()
	k := e.startKiller()
	seen := e.followRotations(k.at)
	rings := make([]*rotated, 0, count)
	for i := range count {
		rings = append(rings, e.newRotated(fmt.Sprintf("r%02d", i), tasks))
	}
	e.waitRotated(rings)
	// Until a replica had read a new KeyRing, it signed with the signing secret.
	start, err := e.keyRings().List(t.Context(), metav1.ListOptions{})
	e.check(err)
	began, err := strconv.ParseUint(start.ResourceVersion, 10, 64)
	e.check(err)
	k.arm(kills)
	for round := 1; !k.isDone(); round++ {
		if round > maxRounds {
			t.Fatalf("after %d rotations: %v kills", maxRounds, k.end())
		}
		e.rotate(rings, round)
		t.Logf("kills after %d rotations: %v", round, k.end())
	}
	e.addKeys(rings[:1]) // one more canary, without a kill
	e.waitRotated(rings[:1])
	if left := e.leftOverCanaries(); len(left) > 0 {
		t.Errorf("left over in namespace %s: %q", v1alpha1.CanaryNamespace, left)
	}
	ringOf, publics := map[string]string{}, map[string]crypto.PublicKey{}
	for _, r := range rings {
		ringOf[r.namespace] = r.name
		for _, key := range r.keys {
			publics[key.name] = key.public
		}
	}
	statuses, signed := seen.writes(began)
	problems := append(checkRings(statuses), e.checkSignatures(statuses, signed, ringOf, publics)...)
	for _, problem := range problems[:min(len(problems), 20)] {
		t.Error(problem)
	}
	t.Logf("%d states of KeyRings and %d signatures have %d problems", len(statuses), len(signed), len(problems))
}

// newRotated creates a ring with its first key, and a namespace with Tasks and a policy.
func (e *env) newRotated(name string, tasks int) *rotated {
	e.t.Helper()
	own := e.newRingKey("own-" + name)
	r := &rotated{name: name, own: own.public, keys: []ringKey{e.newRingKey(name + "-0")}}
	labels := map[string]string{v1alpha1.SignLabel: "true", "ring": name}
	r.namespace = e.namespaceLabelled(labels)
	e.createKeyRing(name, v1alpha1.KeyRingSpec{
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"ring": name}},
		Keys:              []v1alpha1.RingKey{r.keys[0].spec()},
		Rotation:          v1alpha1.RotationSpec{QuietPeriod: &metav1.Duration{}},
	})
	e.createMany(r.namespace, tasks)
	r.policy = e.injected(e.enforcePolicy(r.namespace, own.authority(e)))
	return r
}

// rotate rotates all rings to a new key, and waits until the old keys are untrusted.
func (e *env) rotate(rings []*rotated, round int) {
	e.t.Helper()
	e.addKeys(rings)
	e.waitRotated(rings)
	for _, r := range rings {
		e.waitKeyRing(r.name, manyKills, isUntrusted(r.keys[round-1].name))
		e.waitAuthorities(r.policy, r.own, r.keys[round].public)
	}
}

// addKeys gives each ring a new key, first as a standby and then as the target.
func (e *env) addKeys(rings []*rotated) {
	e.t.Helper()
	for _, r := range rings {
		key := e.newRingKey(fmt.Sprintf("%s-%d", r.name, len(r.keys)))
		r.keys = append(r.keys, key)
		standby := key.spec()
		standby.Standby = true
		e.changeKeyRing(r.name, func(s *v1alpha1.KeyRingSpec) { s.Keys = append(s.Keys, standby) })
	}
	for _, r := range rings {
		e.waitKeyRing(r.name, manyKills, hasState(r.keys[len(r.keys)-1].name, v1alpha1.KeyPending))
	}
	for _, r := range rings {
		e.changeKeyRing(r.name, func(s *v1alpha1.KeyRingSpec) { s.Keys[len(s.Keys)-1].Standby = false })
	}
}

// waitRotated waits until each ring signs with its newest key, and has signed its Tasks.
func (e *env) waitRotated(rings []*rotated) {
	e.t.Helper()
	for _, r := range rings {
		newest := r.keys[len(r.keys)-1]
		e.waitKeyRing(r.name, manyKills, isActive(newest.name))
		e.eventually(manyKills, func() error {
			list, err := cluster.Tekton.TektonV1().Tasks(r.namespace).List(e.t.Context(), metav1.ListOptions{})
			if err != nil {
				return err
			}
			for i := range list.Items {
				if err := harness.Verify(e.t.Context(), &list.Items[i], newest.public); err != nil {
					return err
				}
			}
			return nil
		})
	}
}
