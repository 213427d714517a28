// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
)

// injectedPrefix begins the names of the authorities that the controller adds to policies.
const injectedPrefix = "keyring-"

// ringReaches watches the KeyRing from a resourceVersion on, and returns the time at which
// its status first arrives in a state.
func (s *ringSetup) ringReaches(ctx context.Context, resourceVersion string, reached func(*v1alpha1.KeyRingStatus) bool) (at time.Time, err error) {
	var last v1alpha1.KeyRingStatus
	err = follow(ctx, resourceVersion, s.rings.Watch, func(change watch.Event) bool {
		ring, ok := change.Object.(*v1alpha1.KeyRing)
		if !ok || ring.Name != v1alpha1.DefaultKeyRing {
			return true
		}
		last = ring.Status
		if reached(&last) {
			at = time.Now()
		}
		return at.IsZero()
	})
	if err != nil {
		err = fmt.Errorf("waiting for KeyRing %s: %w; its last status is %+v", v1alpha1.DefaultKeyRing, err, last)
	}
	return at, err
}

func isActive(key benchKey) func(*v1alpha1.KeyRingStatus) bool {
	return func(status *v1alpha1.KeyRingStatus) bool { return status.Active == key.name }
}

// isRotated asks for the state of the old key, too: the condition is true before a rotation.
func isRotated(old, next benchKey) func(*v1alpha1.KeyRingStatus) bool {
	return func(status *v1alpha1.KeyRingStatus) bool {
		key := keyring.StatusOf(status, old.name)
		return status.Active == next.name && key != nil && key.State == v1alpha1.KeyRetired && key.UntrustedSince != nil &&
			meta.IsStatusConditionTrue(status.Conditions, v1alpha1.KeyRingRotated)
	}
}

// policiesVersion returns the present resourceVersion of all VerificationPolicies.
func (s *ringSetup) policiesVersion(ctx context.Context) (string, error) {
	list, err := s.cluster.Tekton.TektonV1alpha1().VerificationPolicies(metav1.NamespaceAll).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return "", err
	}
	return list.ResourceVersion, nil
}

// policiesHave watches the policies from a resourceVersion on, and returns the time at
// which the key arrives in the last of them.
func (s *ringSetup) policiesHave(ctx context.Context, resourceVersion string, key benchKey) (at time.Time, err error) {
	waiting := sets.New(s.namespaces...)
	open := s.cluster.Tekton.TektonV1alpha1().VerificationPolicies(metav1.NamespaceAll).Watch
	err = follow(ctx, resourceVersion, open, func(change watch.Event) bool {
		policy, ok := change.Object.(*tekton.VerificationPolicy)
		if ok && hasInjected(policy, key) {
			waiting.Delete(policy.Namespace)
			at = time.Now()
		}
		return waiting.Len() > 0
	})
	if err != nil {
		err = fmt.Errorf("waiting for key %s in the VerificationPolicies of %d namespaces: %w", key.name, waiting.Len(), err)
	}
	return at, err
}

func hasInjected(policy *tekton.VerificationPolicy, key benchKey) bool {
	return slices.ContainsFunc(policy.Spec.Authorities, func(a tekton.Authority) bool {
		return strings.HasPrefix(a.Name, injectedPrefix) && a.Key != nil && a.Key.Data == key.pem
	})
}
