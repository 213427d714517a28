// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// publish makes the public halves of the keys of a ring known: to everybody in a
// ConfigMap, and in the policies that ask for it. One policy that cannot be changed does
// not keep the others from their keys. It does not stop a rotation either: a policy that
// lacks a key counts as one that is not ready.
func (c *Controller) publish(ctx context.Context, ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus) error {
	err := c.writeConfigMap(ctx, ring, status)
	if err != nil {
		err = fmt.Errorf("publishing the keys in ConfigMap %s/%s: %w", c.Namespace, v1alpha1.TrustedKeysConfigMap, err)
	}
	return errors.Join(err, c.inject(ctx, ring, status))
}

// writeConfigMap brings the entries of a ring in the ConfigMap up to date.
func (c *Controller) writeConfigMap(ctx context.Context, ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus) error {
	present, err := c.Client.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	observed := ring.DeepCopy()
	observed.Status = *status.DeepCopy()
	return c.updateConfigMap(ctx, present.Items, observed)
}

// publishWithout removes the keys of deleted rings from the keys that policies should trust.
// An error of the list is no proof that a ring is deleted.
func (c *Controller) publishWithout(ctx context.Context) error {
	present, err := c.Client.List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) { // the CustomResourceDefinition is not installed
		return nil
	}
	if err != nil {
		return err
	}
	err = c.updateConfigMap(ctx, present.Items, nil)
	if apierrors.IsNotFound(err) { // there was no ring before either
		return nil
	}
	return err
}

// updateConfigMap writes the entries of a ring. The ring is nil if none has changed.
func (c *Controller) updateConfigMap(ctx context.Context, present []v1alpha1.KeyRing, ring *v1alpha1.KeyRing) error {
	client := c.Kube.CoreV1().ConfigMaps(c.Namespace)
	found, err := client.Get(ctx, v1alpha1.TrustedKeysConfigMap, metav1.GetOptions{})
	if err != nil || ring == nil && found.Data[v1alpha1.TrustedKeysIndex] == "" {
		return err
	}
	next := found.DeepCopy()
	if next.Data, err = published(found.Data, present, ring); err != nil || maps.Equal(found.Data, next.Data) {
		return err
	}
	_, err = client.Update(ctx, next, metav1.UpdateOptions{FieldManager: v1alpha1.Group})
	return err
}

// published returns the data of the ConfigMap with the present keys of a ring. What was
// ever there stays, apart from the keys in the bundle: signatures can be older than the
// deletion of a ring.
func published(data map[string]string, present []v1alpha1.KeyRing, ring *v1alpha1.KeyRing) (map[string]string, error) {
	var entries []v1alpha1.PublishedKey
	if content := data[v1alpha1.TrustedKeysIndex]; content != "" {
		if err := json.Unmarshal([]byte(content), &entries); err != nil {
			return nil, fmt.Errorf("%s: %w; delete the ConfigMap if nobody needs the keys of deleted KeyRings", v1alpha1.TrustedKeysIndex, err)
		}
	}
	if ring != nil {
		present = append(slices.DeleteFunc(slices.Clone(present), func(r v1alpha1.KeyRing) bool { return r.Name == ring.Name }), *ring)
		for _, current := range keyring.Published(ring, &ring.Status) {
			entries = slices.DeleteFunc(entries, func(e v1alpha1.PublishedKey) bool {
				return e.Ring == current.Ring && e.Name == current.Name && e.KeyID == current.KeyID
			})
			entries = append(entries, current)
		}
	}
	slices.SortStableFunc(entries, func(a, b v1alpha1.PublishedKey) int { return strings.Compare(a.Ring, b.Ring) })
	index, err := json.MarshalIndent(entries, "", "  ")
	if err != nil {
		return nil, err
	}
	next := map[string]string{}
	maps.Copy(next, data)
	next[v1alpha1.TrustedKeysIndex] = string(index)
	for _, entry := range entries {
		next[fileOf(entry.KeyID)] = entry.PublicKey
	}
	next[v1alpha1.TrustedKeysBundle] = trusted(entries, present)
	return next, nil
}

// trusted returns the keys of the present rings that policies should trust, each once. A key
// that any ring has revoked is none of them, also if the ring was deleted.
func trusted(entries []v1alpha1.PublishedKey, present []v1alpha1.KeyRing) string {
	done := map[string]bool{} // by ID of the key
	for _, entry := range entries {
		if entry.State == v1alpha1.KeyRevoked {
			done[entry.KeyID] = true
		}
	}
	var bundle strings.Builder
	for _, entry := range entries {
		if keyring.Trusted(entry.State) && !done[entry.KeyID] && keyring.Has(present, entry) {
			done[entry.KeyID] = true
			bundle.WriteString(entry.PublicKey)
		}
	}
	return bundle.String()
}

// fileOf returns the name of the file with a key: the digest of its ID, because ":" is not
// allowed in names.
func fileOf(keyID string) string { return strings.TrimPrefix(keyID, "sha256:") + ".pub" }

// injectedPrefix begins the names of the authorities that the controller maintains.
const injectedPrefix = "keyring-"

// maxInjecting is how many policies get their keys at the same time.
const maxInjecting = 8

// inject brings the keys of a ring into the policies that ask for them, in the namespaces
// that the ring serves.
func (c *Controller) inject(ctx context.Context, ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus) error {
	byNamespace, err := c.cachedPolicies()
	if err != nil {
		return err
	}
	var policies []*tekton.VerificationPolicy
	for _, namespace := range slices.Sorted(maps.Keys(byNamespace)) {
		for _, policy := range byNamespace[namespace] {
			if c.maintains(ring, policy) {
				policies = append(policies, policy)
			}
		}
	}
	wanted, errs := authorities(status), make([]error, len(policies))
	var group errgroup.Group // after a theft, a thief can use each policy that still has the key
	group.SetLimit(maxInjecting)
	for i, policy := range policies {
		group.Go(func() error {
			name := v1alpha1.PolicyReference{Namespace: policy.Namespace, Policy: policy.Name}
			if err := c.injectInto(ctx, policy, wanted); err != nil && !slices.Contains(ring.Spec.Rotation.AcceptUnready, name) {
				errs[i] = fmt.Errorf("bringing the keys of KeyRing %s into VerificationPolicy %s/%s: %w%s", ring.Name, name.Namespace, name.Policy, err, remedy(err))
			}
			return nil // one policy does not keep the others from their keys
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return first(slices.DeleteFunc(errs, func(err error) bool { return err == nil }))
}

// maintains reports whether a policy asks for the keys of a ring.
func (c *Controller) maintains(ring *v1alpha1.KeyRing, policy *tekton.VerificationPolicy) bool {
	return policy.Annotations[v1alpha1.InjectKeysAnnotation] == "true" && c.RingOf(policy.Namespace) == ring.Name
}

func remedy(err error) string {
	if apierrors.IsForbidden(err) {
		return "; apply config/injection, or name the policy in spec.rotation.acceptUnready"
	}
	return ""
}

// stillInjected returns a policy at the API server that has a key which the controller
// should have removed. The cache may be behind.
func (c *Controller) stillInjected(ctx context.Context, ring *v1alpha1.KeyRing, key *v1alpha1.RingKeyStatus) error {
	byNamespace, err := c.livePolicies(ctx)
	if err != nil {
		return err
	}
	name := authorityOf(key).Name
	for namespace, policies := range byNamespace {
		for _, policy := range policies {
			has := slices.ContainsFunc(policy.Spec.Authorities, func(a tekton.Authority) bool { return a.Name == name })
			accepted := slices.Contains(ring.Spec.Rotation.AcceptUnready, v1alpha1.PolicyReference{Namespace: namespace, Policy: policy.Name})
			if has && !accepted && c.maintains(ring, policy) {
				return blocked{fmt.Sprintf("VerificationPolicy %s/%s still has key %q", namespace, policy.Name, key.Name)}
			}
		}
	}
	return nil
}

// first returns the first error, and how many more there are.
func first(errs []error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return fmt.Errorf("%w (and %d other policies)", errs[0], len(errs)-1)
}

// authorities returns the authorities for the keys that policies should trust.
func authorities(status *v1alpha1.KeyRingStatus) (wanted []tekton.Authority) {
	for _, key := range status.Keys {
		if keyring.Trusted(key.State) && key.PublicKey != "" {
			wanted = append(wanted, authorityOf(&key))
		}
	}
	return wanted
}

func authorityOf(key *v1alpha1.RingKeyStatus) tekton.Authority {
	return tekton.Authority{
		Name: injectedPrefix + strings.TrimPrefix(key.KeyID, "sha256:")[:12],
		Key:  &tekton.KeyRef{Data: key.PublicKey, HashAlgorithm: "sha256"},
	}
}

// nobodyName is the authority of a policy that has lost its last key.
const nobodyName = injectedPrefix + "none"

// nobody returns an authority that verifies nothing: a policy needs at least one. Nobody
// has the private half of its key.
func nobody(ctx context.Context) (tekton.Authority, error) {
	key, err := keys.NewEphemeral(ctx)
	if err != nil {
		return tekton.Authority{}, err
	}
	public, err := key.PEM()
	return tekton.Authority{Name: nobodyName, Key: &tekton.KeyRef{Data: public, HashAlgorithm: "sha256"}}, err
}

// injectInto replaces the injected authorities of a policy, and leaves the others. The API
// server refuses the patch if the policy has changed since it was read.
func (c *Controller) injectInto(ctx context.Context, policy *tekton.VerificationPolicy, wanted []tekton.Authority) error {
	next := slices.DeleteFunc(slices.Clone(policy.Spec.Authorities), func(a tekton.Authority) bool {
		return strings.HasPrefix(a.Name, injectedPrefix)
	})
	next = append(next, wanted...)
	trustsNobody := len(policy.Spec.Authorities) == 1 && policy.Spec.Authorities[0].Name == nobodyName
	if equality.Semantic.DeepEqual(policy.Spec.Authorities, next) || len(next) == 0 && trustsNobody {
		return nil
	}
	if len(next) == 0 {
		none, err := nobody(ctx)
		if err != nil {
			return err
		}
		next = append(next, none)
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": policy.ResourceVersion},
		"spec":     map[string]any{"authorities": next},
	})
	if err != nil {
		return err
	}
	_, err = c.Tekton.TektonV1alpha1().VerificationPolicies(policy.Namespace).
		Patch(ctx, policy.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: v1alpha1.Group})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
