// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// newRing returns the KeyRing that the command creates. Nothing is signed where a KeyRing
// has no key that signs, so its first key is the present one, or the new key with
// --activate.
func (g *generation) newRing(ctx context.Context) (*v1alpha1.KeyRing, error) {
	ring := &v1alpha1.KeyRing{ObjectMeta: metav1.ObjectMeta{Name: g.ring}}
	isDefault := g.ring == v1alpha1.DefaultKeyRing
	switch {
	case isDefault && g.selector != "":
		return nil, errors.New("--namespace-selector: KeyRing default serves all namespaces that no other KeyRing selects, so it has no selector")
	case !isDefault && g.selector == "":
		return nil, fmt.Errorf("namespace %s has no KeyRing %q; to create it, give --namespace-selector with the labels of the namespaces that it serves", g.namespace, g.ring)
	case !isDefault:
		selector, err := metav1.ParseToLabelSelector(g.selector)
		if err != nil {
			return nil, fmt.Errorf("--namespace-selector %q: %w", g.selector, err)
		}
		ring.Spec.NamespaceSelector = selector
	}
	if g.activate {
		return ring, nil
	}
	present, err := g.presentKey(ctx, isDefault)
	if err != nil {
		return nil, fmt.Errorf("KeyRing %s does not exist, and cannot begin with the present key: %w; repeat the command with --activate: the new key then signs "+
			"as soon as every policy that trusts the present key trusts the new one, and until then nothing is signed in the namespaces of the KeyRing", g.ring, err)
	}
	ring.Spec.Keys = []v1alpha1.RingKey{*present}
	g.say("The first key of KeyRing %s is that of Secret %s, as before. It also signs Chains' attestations, until you rotate to the new key%s",
		g.ring, signingSecret, dryRunNote(g.dryRun))
	return ring, nil
}

// presentKey returns an entry for the key that signs without a KeyRing.
func (g *generation) presentKey(ctx context.Context, isDefault bool) (*v1alpha1.RingKey, error) {
	if !isDefault {
		return nil, errors.New("KeyRings do not share keys")
	}
	secret, err := g.secrets.Get(ctx, signingSecret, metav1.GetOptions{})
	if err != nil {
		return nil, g.explain(err, "get", "secrets")
	}
	key, err := keys.FromSecret(ctx, "Secret "+g.namespace+"/"+signingSecret, secret.Data)
	if err != nil {
		return nil, err
	}
	public, err := key.PEM()
	if err != nil {
		return nil, err
	}
	return &v1alpha1.RingKey{Name: signingSecret, X509: &v1alpha1.X509Key{Secret: signingSecret}, PublicKey: public}, nil
}

// create creates the KeyRing. If an earlier call did, the command has to be repeated,
// because the KeyRing may have other keys.
func (g *generation) create(ctx context.Context, ring *v1alpha1.KeyRing, dryRun bool) (*v1alpha1.KeyRing, error) {
	created, err := g.writer.Create(ctx, ring, metav1.CreateOptions{FieldManager: fieldManager, DryRun: dryRunOf(dryRun)})
	if apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("somebody else created the KeyRing meanwhile: %w", err)
	}
	if err != nil {
		return nil, g.explain(err, "create", "keyrings")
	}
	return created, nil
}
