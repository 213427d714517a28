// SPDX-License-Identifier: Apache-2.0

package clusterpolicies

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/clusterpolicy"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

var everything = labels.Everything()

// definitionAnnotation on the ConfigMap is the UID of the CustomResourceDefinition that the
// policies were objects of. Objects that vanish together with it were not deleted one by one.
const definitionAnnotation = v1alpha1.Group + "/definition"

// compiled is a policy in the form in which it is put into force.
type compiled struct {
	object *v1alpha1.ClusterVerificationPolicy
	// policy is nil if nothing of the policy can be in force.
	policy      *policy.ClusterPolicy
	accepted    metav1.Condition
	authorities []v1alpha1.PolicyAuthorityStatus
}

// reconcile writes the policies that are in force, then the status of each policy. known
// reports that the API server knows them.
func (c *Controller) reconcile(ctx context.Context) (known bool, err error) {
	configMap, err := c.configMap(ctx)
	if err != nil {
		return false, err
	}
	before, err := clusterpolicy.Decode(configMap.Data)
	if err != nil { // somebody else wrote it; the policies are written anew
		c.Emitter.Emit(ctx, observe.ClusterPoliciesRewritten{Err: err})
	}
	looked := c.look(ctx, before)
	kept, err := c.kept(ctx, configMap, before, looked)
	if err != nil {
		return false, err
	}
	if err := c.write(ctx, configMap, looked, kept); err != nil {
		return false, err
	}
	return c.state(ctx, looked, configMap.Data[v1alpha1.RevisionKey])
}

// configMap returns the ConfigMap, which may be empty and not exist.
func (c *Controller) configMap(ctx context.Context) (*corev1.ConfigMap, error) {
	found, err := c.Kube.CoreV1().ConfigMaps(v1alpha1.PoliciesNamespace).Get(ctx, v1alpha1.ClusterPoliciesConfigMap, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			Namespace: v1alpha1.PoliciesNamespace, Name: v1alpha1.ClusterPoliciesConfigMap,
			Labels: map[string]string{"app.kubernetes.io/part-of": "tekton-chains"},
		}}, nil
	}
	return found, err
}

// look compiles each policy, in the order of their names.
func (c *Controller) look(ctx context.Context, before []policy.ClusterPolicy) []*compiled {
	var looked []*compiled
	for _, item := range c.policies.GetStore().List() {
		object, ok := item.(*v1alpha1.ClusterVerificationPolicy)
		if !ok {
			continue
		}
		i := slices.IndexFunc(before, func(p policy.ClusterPolicy) bool {
			return p.Name == object.Name && p.Revision.UID == string(object.UID)
		})
		var last *policy.ClusterPolicy
		if i >= 0 {
			last = &before[i]
		}
		looked = append(looked, c.compile(ctx, object, last))
	}
	slices.SortFunc(looked, func(a, b *compiled) int { return cmp.Compare(a.object.Name, b.object.Name) })
	return looked
}

// compile returns a policy with its keys. If the policy is not usable, the last state of it
// that was stays in force.
func (c *Controller) compile(ctx context.Context, object *v1alpha1.ClusterVerificationPolicy, last *policy.ClusterPolicy) *compiled {
	made := &compiled{object: object}
	publicKeys, unread := c.authorities(ctx, made, last)
	next := policy.ClusterPolicy{
		Name: object.Name, Generation: object.Generation, Spec: *object.Spec.DeepCopy(), PublicKeys: publicKeys,
		Revision: policy.Revision{UID: string(object.UID), ResourceVersion: object.ResourceVersion, SpecSHA256: policy.SpecSHA256(object.Spec)},
	}
	if last != nil && last.Revision.SpecSHA256 == next.Revision.SpecSHA256 {
		next.Revision = last.Revision // the resourceVersion changes with each status
	}
	_, err := policy.NewCluster([]policy.ClusterPolicy{next})
	switch {
	case last != nil && last.Generation > next.Generation: // the cache is older than what another replica wrote
		made.policy = last
		made.accepted = accepted(metav1.ConditionUnknown, v1alpha1.PolicyNotRead, "the last change was not read yet")
	case err != nil:
		made.refuse(v1alpha1.PolicyInvalidSpec, err, last)
	case unread != nil && len(publicKeys) < needed(&object.Spec):
		made.refuse(v1alpha1.PolicyInvalidKey, unread, last)
	case unread != nil:
		made.policy = &next
		made.accepted = accepted(metav1.ConditionTrue, v1alpha1.PolicyKeysKept, fmt.Sprintf("the keys that were read last stay in use: %v", unread))
	default:
		made.policy = &next
		made.accepted = accepted(metav1.ConditionTrue, v1alpha1.PolicyInForce, "")
	}
	return made
}

// needed is the number of authorities with a public key of their own.
func needed(spec *v1alpha1.ClusterVerificationPolicySpec) (n int) {
	for _, a := range spec.Authorities {
		if a.KeyRing == "" {
			n++
		}
	}
	return n
}

func (m *compiled) refuse(reason string, err error, last *policy.ClusterPolicy) {
	message := err.Error() + "; the policy decides nothing"
	if last != nil {
		message = err.Error() + "; the state before the last change stays in force"
	}
	m.policy, m.accepted = last, accepted(metav1.ConditionFalse, reason, message)
}

func accepted(status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: v1alpha1.PolicyAccepted, Status: status, Reason: reason, Message: message}
}

// authorities returns the public keys of the authorities that have one, by name. An
// authority that cannot be read keeps its last key. The error says which cannot be read.
func (c *Controller) authorities(ctx context.Context, made *compiled, last *policy.ClusterPolicy) (publicKeys map[string]string, err error) {
	publicKeys = map[string]string{}
	var errs []error
	for _, a := range made.object.Spec.Authorities {
		if a.KeyRing != "" {
			continue
		}
		status := v1alpha1.PolicyAuthorityStatus{Name: a.Name}
		read, err := c.Keys.read(ctx, a)
		if err != nil {
			errs = append(errs, fmt.Errorf("authority %q: %w", a.Name, err))
			status.Problem = err.Error()
			read = lastKey(ctx, last, a)
		}
		if read.PublicKey != "" {
			publicKeys[a.Name] = read.PublicKey
			status.PublicKey, status.KeyID = read.PublicKey, read.KeyID
		}
		made.authorities = append(made.authorities, status)
	}
	return publicKeys, errors.Join(errs...)
}

// kept returns the policies in the ConfigMap that stay there although the cache has no
// objects of their names: the objects are newer than the cache; or the
// CustomResourceDefinition is gone, is being deleted, or is another one. In these cases no
// administrator has deleted the policies themselves.
func (c *Controller) kept(ctx context.Context, configMap *corev1.ConfigMap, before []policy.ClusterPolicy, looked []*compiled) ([]policy.ClusterPolicy, error) {
	gone := slices.DeleteFunc(slices.Clone(before), func(p policy.ClusterPolicy) bool {
		return slices.ContainsFunc(looked, func(m *compiled) bool { return m.object.Name == p.Name })
	})
	definition, err := c.Definition(ctx)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, err
	}
	same := err == nil && definition.GetDeletionTimestamp() == nil
	if recorded := configMap.Annotations[definitionAnnotation]; same && recorded != "" && recorded != string(definition.GetUID()) {
		same = false
	}
	if same || len(gone) == 0 {
		if err == nil {
			metav1.SetMetaDataAnnotation(&configMap.ObjectMeta, definitionAnnotation, string(definition.GetUID()))
		}
		return c.alive(ctx, gone)
	}
	if !slices.Equal(c.held, names(gone)) {
		c.held = names(gone)
		c.Emitter.Emit(ctx, observe.ClusterPoliciesHeld{Policies: c.held})
	}
	return gone, nil
}

// alive returns the policies whose objects the API server has.
func (c *Controller) alive(ctx context.Context, policies []policy.ClusterPolicy) (found []policy.ClusterPolicy, err error) {
	c.held = nil
	for _, p := range policies {
		object, err := c.Client.Get(ctx, p.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, err
		case string(object.UID) == p.Revision.UID:
			found = append(found, p)
		}
	}
	return found, nil
}

func names(policies []policy.ClusterPolicy) []string {
	all := make([]string, 0, len(policies))
	for _, p := range policies {
		all = append(all, p.Name)
	}
	return all
}

// write writes the ConfigMap, also in configMap, and then the selectors for the API server:
// a Pod that is held for a policy is decided about by that policy.
func (c *Controller) write(ctx context.Context, configMap *corev1.ConfigMap, looked []*compiled, kept []policy.ClusterPolicy) error {
	data, selectors, err := encode(looked, kept)
	if err != nil {
		return err
	}
	exists := configMap.UID != ""
	if (exists || len(looked)+len(kept) > 0) && !maps.Equal(data, configMap.Data) {
		configMap.Data = data
		if err := c.writeConfigMap(ctx, configMap, exists); err != nil {
			return fmt.Errorf("writing ConfigMap %s/%s: %w", v1alpha1.PoliciesNamespace, v1alpha1.ClusterPoliciesConfigMap, err)
		}
	}
	if err := c.writeSelectors(ctx, selectors, configMap.Data[v1alpha1.RevisionKey]); err != nil {
		return fmt.Errorf("writing the selectors to namespace %s: %w", v1alpha1.PoliciesNamespace, err)
	}
	return nil
}

func (c *Controller) writeConfigMap(ctx context.Context, configMap *corev1.ConfigMap, exists bool) (err error) {
	client := c.Kube.CoreV1().ConfigMaps(v1alpha1.PoliciesNamespace)
	if exists {
		_, err = client.Update(ctx, configMap, metav1.UpdateOptions{FieldManager: v1alpha1.Group})
	} else {
		_, err = client.Create(ctx, configMap, metav1.CreateOptions{FieldManager: v1alpha1.Group})
	}
	return err
}

// writeSelectors writes the annotations of the namespace if they differ from those in the
// cache.
func (c *Controller) writeSelectors(ctx context.Context, selectors, revision string) error {
	found, err := c.Namespaces.Get(v1alpha1.PoliciesNamespace)
	if err != nil {
		return err
	}
	wanted := map[string]string{v1alpha1.EnforcedAnnotation: selectors, v1alpha1.ClusterPoliciesAnnotation: revision}
	same := true
	for key, value := range wanted {
		same = same && found.Annotations[key] == value
	}
	if same {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": wanted}})
	if err != nil {
		return err
	}
	_, err = c.Kube.CoreV1().Namespaces().Patch(ctx, found.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: v1alpha1.Group})
	return err
}

// encode returns the data of the ConfigMap and the selectors. A policy that does not fit is
// refused: first the newest.
func encode(looked []*compiled, kept []policy.ClusterPolicy) (data map[string]string, selectors string, err error) {
	for {
		policies := slices.Clone(kept)
		for _, m := range looked {
			if m.policy != nil {
				policies = append(policies, *m.policy)
			}
		}
		data, selectors, err = clusterpolicy.Encode(policies)
		if !errors.Is(err, clusterpolicy.ErrTooLarge) {
			return data, selectors, err
		}
		newest := newestOf(looked)
		if newest == nil {
			return nil, "", err
		}
		newest.refuse(v1alpha1.PolicyTooLarge, err, nil)
	}
}

// newestOf returns the policy that was created last, of those that would be in force.
func newestOf(looked []*compiled) (newest *compiled) {
	for _, m := range looked {
		if m.policy != nil && (newest == nil || newest.object.CreationTimestamp.Before(&m.object.CreationTimestamp)) {
			newest = m
		}
	}
	return newest
}
