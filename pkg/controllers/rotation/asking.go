// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tektoncd/chains/pkg/chains/signing"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// probeTimeout bounds the signatures that a step does not need. A KMS that hangs must not
// delay a revocation.
const probeTimeout = 2 * time.Second

// maxListed bounds the names in a message, maxUnready those in the status.
const maxListed, maxUnready = 5, 100

// ready returns a key if every policy that trusts another key of the ring trusts it.
func (c *Controller) ready(ctx context.Context, ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus, name string) (*keys.Key, error) {
	var asked *look
	var legacy []string
	next, err := c.Keys.Key(ctx, ring, name)
	emergency := isEmergency(status) // nothing is left to break
	if err == nil && !emergency {
		asked, legacy, err = c.askNow(ctx, ring, status, next)
	}
	if err != nil || emergency {
		if name == status.Target {
			setCondition(ring, status, notLooked(status, err))
		}
		return next, err
	}
	asked.record(ring, status, legacy)
	trust := asked.trust(status, keyring.StatusOf(status, name), legacy)
	if len(trust.notKnown) > 0 {
		return nil, blocked{fmt.Sprintf("which policies trust these keys is not known, because their public half is not: %s; "+
			"restore the private half, set publicKey, or revoke the key", strings.Join(trust.notKnown, ", "))}
	}
	blocking := trust.blocking(ring.Spec.Rotation.AcceptUnready)
	if len(blocking) > 0 {
		return nil, blocked{fmt.Sprintf("%d VerificationPolicies trust another key and not key %q: %s; add the key to them, or name them in spec.rotation.acceptUnready",
			len(blocking), name, list(blocking))}
	}
	return next, nil
}

// askNow asks the policies that the API server has now. It returns the IDs of the keys that
// sign without a KeyRing, if policies may rely on them.
func (c *Controller) askNow(ctx context.Context, ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus, next *keys.Key) (asked *look, legacy []string, err error) {
	policies, err := c.livePolicies(ctx)
	if err == nil {
		policies, err = c.withCluster(ctx, policies, true)
	}
	if err != nil {
		return nil, nil, err
	}
	first, err := c.probeOf(ctx, next)
	if err != nil {
		return nil, nil, err
	}
	probes, signers := map[string]policy.Input{next.ID: first}, c.signers(ctx, ring, status)
	if status.Active == "" {
		if legacy, err = c.addLegacy(signers); err != nil {
			return nil, nil, err
		}
	}
	c.addProbes(ctx, probes, signers)
	asked, err = lookAt(ctx, policies, c.Policies.Fresh(), probes, append(idsOf(status), legacy...))
	return asked, legacy, err
}

// addLegacy adds the keys that sign without a KeyRing, and returns their IDs.
func (c *Controller) addLegacy(signers map[string]*keys.Key) (ids []string, err error) {
	withoutRing := c.Legacy()
	for _, signerType := range []string{signing.TypeX509, signing.TypeKMS} {
		key, err := withoutRing.Active(signerType)
		switch {
		case err == nil:
			signers["without a KeyRing: "+signerType] = key
			ids = append(ids, key.ID)
		case signerType == signing.TypeKMS && withoutRing.Problem(signerType) != nil:
			return nil, fmt.Errorf("which policies trust the key that signs without a KeyRing is not known: %w", err)
		}
	}
	return ids, nil
}

// idsOf returns the IDs of the keys of a ring that are known.
func idsOf(status *v1alpha1.KeyRingStatus) (ids []string) {
	for _, key := range status.Keys {
		if key.KeyID != "" {
			ids = append(ids, key.KeyID)
		}
	}
	return ids
}

// notice records which keys the policies in the cache trust. Somebody may have written
// policies after the activation that do not trust the active key.
func (c *Controller) notice(ctx context.Context, ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus) error {
	policies, err := c.cachedPolicies()
	if err == nil {
		policies, err = c.withCluster(ctx, policies, false)
	}
	if err != nil {
		return err
	}
	probes := map[string]policy.Input{}
	c.addProbes(ctx, probes, c.signers(ctx, ring, status))
	asked, err := lookAt(ctx, policies, c.Policies, probes, idsOf(status))
	if err != nil {
		return err
	}
	asked.record(ring, status, nil)
	return nil
}

// record sets what a look says of the keys of a ring.
func (l *look) record(ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus, legacy []string) {
	for i := range status.Keys {
		key := &status.Keys[i]
		key.Policies, key.Unready, key.UnreadyPolicies = l.count(key.KeyID), 0, nil
		if key.Policies != nil && (key.State == v1alpha1.KeyPending || key.State == v1alpha1.KeyActive || key.Name == status.Target) {
			unready := l.trust(status, key, legacy).unready
			key.Unready, key.UnreadyPolicies = int64(len(unready)), slices.Clone(unready[:min(len(unready), maxUnready)])
		}
	}
	setCondition(ring, status, l.trusted(ring, status, legacy))
}

// trusted returns the condition Trusted.
func (l *look) trusted(ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus, legacy []string) metav1.Condition {
	target := keyring.StatusOf(status, status.Target)
	if target == nil || keyring.FollowsRevoked(status, target.Name) {
		return notLooked(status, nil)
	}
	if _, asked := l.trusts[target.KeyID]; !asked {
		return notLooked(status, fmt.Errorf("key %q makes no signature now", target.Name))
	}
	return l.trust(status, target, legacy).condition(ring.Spec.Rotation.AcceptUnready)
}

// trust returns what a look says of a key that was asked about.
func (l *look) trust(status *v1alpha1.KeyRingStatus, of *v1alpha1.RingKeyStatus, legacy []string) trust {
	t := trust{key: of.Name}
	ids := slices.DeleteFunc(slices.Clone(legacy), func(id string) bool { return id == of.KeyID })
	for _, key := range status.Keys {
		if key.Name == of.Name || key.KeyID == of.KeyID || key.State == v1alpha1.KeyRevoked {
			continue
		}
		relied := isRelied(status, &key)
		// Policies should not trust a retired key, but some may.
		retired := key.State == v1alpha1.KeyRetired && of.Name == status.Active
		switch {
		case relied && key.KeyID == "":
			t.notKnown = append(t.notKnown, key.Name)
		case relied || retired:
			ids = append(ids, key.KeyID)
		}
	}
	t.unready, t.concerned = l.unready(of.KeyID, ids)
	return t
}

// isRelied reports that policies may rely on the signatures of a key: the key signed. If no
// key of the ring is active, as after a restore, it is not known which of them did.
func isRelied(status *v1alpha1.KeyRingStatus, key *v1alpha1.RingKeyStatus) bool {
	return key.State == v1alpha1.KeyActive || key.State == v1alpha1.KeyRetiring || status.Active == ""
}
