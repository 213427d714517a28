// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// FieldManager is the field manager of all applied fields.
const FieldManager = "localcluster"

const (
	parallel     = 8 // requests at a time
	pollInterval = 100 * time.Millisecond
)

// Applier applies objects to one cluster.
type Applier struct {
	client dynamic.Interface
	mapper meta.ResettableRESTMapper

	// RetryFor is how long Apply retries an object while an admission webhook cannot be reached.
	RetryFor time.Duration
	// Applied, if set, is called after each object; calls may overlap.
	Applied func(*unstructured.Unstructured)
}

// New returns an Applier that acts with the given identity.
func New(cfg *rest.Config) (*Applier, error) {
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return &Applier{client: client, mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco))}, nil
}

// Apply applies all objects: first namespaces, then custom resource definitions, which must be established
// before Apply continues, then kinds that other objects refer to, such as ServiceAccounts and Roles, then the
// rest in the given order, so that a TaskRun can follow its Task.
func (a *Applier) Apply(ctx context.Context, objects []*unstructured.Unstructured) error {
	for _, wave := range waves(objects) {
		group, gctx := errgroup.WithContext(ctx)
		group.SetLimit(parallel)
		if rank(wave[0].GetKind()) == inOrder {
			group.SetLimit(1)
		}
		for _, obj := range wave {
			group.Go(func() error { return a.applyOne(gctx, obj) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if wave[0].GetKind() == definition {
			if err := a.served(ctx, wave); err != nil {
				return err
			}
		}
	}
	return nil
}

// inOrder is the rank of the kinds that are applied one by one.
const inOrder = 4

// rank returns the position of a kind: objects refer to objects of lower ranks.
func rank(kind string) int {
	switch kind {
	case "Namespace":
		return 0
	case definition:
		return 1
	case "ServiceAccount", "ClusterRole", "Role", "ConfigMap", "Secret", "Service":
		return 2
	case "ClusterRoleBinding", "RoleBinding":
		return 3
	default:
		return inOrder
	}
}

// waves groups objects by rank and keeps the order within a rank.
func waves(objects []*unstructured.Unstructured) [][]*unstructured.Unstructured {
	sorted := slices.Clone(objects)
	slices.SortStableFunc(sorted, func(a, b *unstructured.Unstructured) int {
		return cmp.Compare(rank(a.GetKind()), rank(b.GetKind()))
	})
	var all [][]*unstructured.Unstructured
	for i, obj := range sorted {
		if i == 0 || rank(obj.GetKind()) != rank(sorted[i-1].GetKind()) {
			all = append(all, nil)
		}
		all[len(all)-1] = append(all[len(all)-1], obj)
	}
	return all
}

// Describe returns the name of an object for messages, such as "Task default/hello".
func Describe(obj *unstructured.Unstructured) string {
	if ns := obj.GetNamespace(); ns != "" {
		return fmt.Sprintf("%s %s/%s", obj.GetKind(), ns, obj.GetName())
	}
	return fmt.Sprintf("%s %s", obj.GetKind(), obj.GetName())
}

func (a *Applier) applyOne(ctx context.Context, obj *unstructured.Unstructured) error {
	client, err := a.clientFor(obj)
	if err != nil {
		return fmt.Errorf("apply %s: %w", Describe(obj), err)
	}
	apply := func(ctx context.Context) error {
		_, err := client.Apply(ctx, obj.GetName(), obj, metav1.ApplyOptions{FieldManager: FieldManager, Force: true})
		return err
	}
	err = apply(ctx)
	if a.RetryFor > 0 && webhookUnreachable(err) {
		err = retry(ctx, a.RetryFor, apply)
	}
	if err != nil {
		return fmt.Errorf("apply %s: %w", Describe(obj), err)
	}
	if obj.GetKind() == definition {
		if err := established(ctx, client, obj.GetName()); err != nil {
			return err
		}
	}
	if a.Applied != nil {
		a.Applied(obj)
	}
	return nil
}

func (a *Applier) clientFor(obj *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	gvk := obj.GroupVersionKind()
	mapping, err := a.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		return a.client.Resource(mapping.Resource), nil
	}
	if obj.GetNamespace() == "" {
		obj.SetNamespace(metav1.NamespaceDefault)
	}
	return a.client.Resource(mapping.Resource).Namespace(obj.GetNamespace()), nil
}

func webhookUnreachable(err error) bool {
	return apierrors.IsInternalError(err) && strings.Contains(err.Error(), "failed calling webhook")
}

func retry(ctx context.Context, within time.Duration, apply func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, pollInterval, within, true, func(ctx context.Context) (bool, error) {
		last = apply(ctx)
		if webhookUnreachable(last) {
			return false, nil
		}
		return last == nil, last
	})
	if wait.Interrupted(err) {
		return errors.Join(last, err)
	}
	return err
}
