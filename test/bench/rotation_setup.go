// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"path/filepath"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/client"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// ringSetup is what a rotation needs: a KeyRing, and namespaces with Tasks and policies.
type ringSetup struct {
	*bench
	rings      *client.KeyRings
	created    string   // resourceVersion of the new KeyRing
	old, next  benchKey // the KeyRing begins with old
	namespaces []string
}

// benchKey is a key of the KeyRing. Its Secret has the same name.
type benchKey struct{ name, pem string }

func (k benchKey) spec() v1alpha1.RingKey {
	return v1alpha1.RingKey{Name: k.name, X509: &v1alpha1.X509Key{Secret: k.name}}
}

// setUpRing creates all that exists before the controller starts. The prefix is that of
// the names of the keys.
func (b *bench) setUpRing(ctx context.Context, o options, prefix string) (*ringSetup, error) {
	rings, err := client.NewKeyRings(b.cluster.Admin, harness.SystemNamespace)
	if err != nil {
		return nil, err
	}
	s := &ringSetup{bench: b, rings: rings}
	if _, err := b.cluster.RunKubectl(ctx, "", "apply", "-f", injectionManifests()); err != nil {
		return nil, err
	}
	if s.old, err = b.createKey(ctx, prefix+"-old"); err != nil {
		return nil, err
	}
	if s.next, err = b.createKey(ctx, prefix+"-new"); err != nil {
		return nil, err
	}
	ring, err := rings.Create(ctx, &v1alpha1.KeyRing{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultKeyRing},
		Spec: v1alpha1.KeyRingSpec{
			Keys:     []v1alpha1.RingKey{s.old.spec()},
			Rotation: v1alpha1.RotationSpec{QuietPeriod: &metav1.Duration{}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	s.created = ring.ResourceVersion
	return s, s.createNamespaces(ctx, o)
}

func injectionManifests() string { return filepath.Join(harness.Root(), "config", "injection") }

// createKey makes a key, and its Secret in the namespace of the controller.
func (b *bench) createKey(ctx context.Context, name string) (benchKey, error) {
	data, pem, err := newKey()
	if err != nil {
		return benchKey{}, err
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data, Immutable: new(true)}
	_, err = b.cluster.Kube.CoreV1().Secrets(harness.SystemNamespace).Create(ctx, secret, metav1.CreateOptions{})
	return benchKey{name, pem}, err
}

func newKey() (private fixtures.Secret, pem string, err error) {
	private, public, err := fixtures.X509Secret()
	if err != nil {
		return nil, "", err
	}
	encoded, err := cryptoutils.MarshalPublicKeyToPEM(public)
	return private, string(encoded), err
}

// createNamespaces creates the namespaces and their policies, and spreads the Tasks over
// the namespaces. The name of a Task is unique in the cluster, because trackers ignore the
// namespace.
func (s *ringSetup) createNamespaces(ctx context.Context, o options) error {
	for range o.namespaces {
		namespace, err := s.createTasks(ctx, optedIn, 0)
		if err != nil {
			return err
		}
		s.namespaces = append(s.namespaces, namespace)
		if err := s.createPolicy(ctx, namespace); err != nil {
			return err
		}
	}
	s.log.Printf("%s: creating %d Tasks in %d namespaces", s.old.name, o.count, o.namespaces)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(creators)
	for i := range o.count {
		group.Go(func() error { return s.create(groupCtx, s.namespaces[i%o.namespaces], taskName(i)) })
	}
	return group.Wait()
}

// createPolicy creates a policy that asks for the keys of the KeyRing and trusts a key of
// its own.
func (s *ringSetup) createPolicy(ctx context.Context, namespace string) error {
	_, own, err := newKey()
	if err != nil {
		return err
	}
	_, err = s.cluster.Tekton.TektonV1alpha1().VerificationPolicies(namespace).Create(ctx, &tekton.VerificationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "injected", Annotations: map[string]string{v1alpha1.InjectKeysAnnotation: "true"}},
		Spec: tekton.VerificationPolicySpec{
			Resources:   []tekton.ResourcePattern{{Pattern: ".*"}},
			Authorities: []tekton.Authority{{Name: "own", Key: &tekton.KeyRef{Data: own, HashAlgorithm: "sha256"}}},
			Mode:        tekton.ModeEnforce,
		},
	}, metav1.CreateOptions{})
	return err
}

// remove deletes what setUpRing has created. No controller may run: without a KeyRing it
// would sign all Tasks again, with the key of the signing secret.
func (s *ringSetup) remove(ctx context.Context) error {
	if err := s.rings.Delete(ctx, v1alpha1.DefaultKeyRing, metav1.DeleteOptions{}); err != nil {
		return err
	}
	for _, key := range []benchKey{s.old, s.next} {
		if err := s.cluster.Kube.CoreV1().Secrets(harness.SystemNamespace).Delete(ctx, key.name, metav1.DeleteOptions{}); err != nil {
			return err
		}
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(creators)
	for _, namespace := range s.namespaces {
		group.Go(func() error { return s.deleteNamespace(groupCtx, namespace) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	_, err := s.cluster.RunKubectl(ctx, "", "delete", "--ignore-not-found", "-f", injectionManifests())
	return err
}
