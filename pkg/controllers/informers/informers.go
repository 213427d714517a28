// SPDX-License-Identifier: Apache-2.0

// Package informers has the informers that the work on Tasks, Pipelines and
// StepActions needs, and registers event handlers.
package informers

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// summarize is a cache.TransformFunc. Client-go may pass an item through it twice,
// so a summary stays as it is.
func summarize(ctx context.Context, item any) (any, error) {
	object, ok := item.(resource.Object)
	if !ok {
		return item, nil
	}
	summary, err := resource.Summarize(ctx, object)
	if err != nil {
		return nil, err
	}
	summary.Received = time.Now()
	return summary, nil
}

// Summaries are the summaries of the resources of one kind in the cluster.
type Summaries struct {
	kind     resource.Kind
	informer cache.SharedIndexInformer
	scope    []string
}

// Summaries returns the summaries of one kind. scope limits them to some
// namespaces; empty means all namespaces.
func (w *Watched) Summaries(kind resource.Kind, scope []string) *Summaries {
	return &Summaries{kind: kind, informer: w.informerOf[kind], scope: scope}
}

// Get returns the summary of a resource, or nil if there is no such resource.
func (s *Summaries) Get(key types.NamespacedName) (*resource.Summary, error) {
	item, exists, err := s.informer.GetIndexer().GetByKey(key.String())
	if err != nil || !exists {
		return nil, err
	}
	summary, ok := item.(*resource.Summary)
	if !ok {
		return nil, fmt.Errorf("the informer cache of kind %s holds a %T, expected a summary", s.kind, item)
	}
	return summary, nil
}

// Visit calls visit with each summary.
func (s *Summaries) Visit(visit func(*resource.Summary)) {
	for _, item := range s.informer.GetStore().List() {
		if summary, ok := item.(*resource.Summary); ok && s.has(summary.Namespace) {
			visit(summary)
		}
	}
}

// Keys returns the keys of the resources in a namespace, or in all namespaces if
// namespace is empty.
func (s *Summaries) Keys(namespace string) []types.NamespacedName {
	indexer := s.informer.GetIndexer()
	names := indexer.ListKeys
	if namespace != "" {
		names = func() []string {
			inNamespace, err := indexer.IndexKeys(cache.NamespaceIndex, namespace)
			if err != nil {
				return indexer.ListKeys() // there is no such index: too many keys do no harm
			}
			return inNamespace
		}
	}
	var keys []types.NamespacedName
	for _, name := range names() {
		if key, ok := s.inScope(cache.ParseObjectName(name)); ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// OnEvent calls handle with the key of each resource that is added, updated or
// deleted. initial is true for those that existed before the process began to watch.
func (s *Summaries) OnEvent(handlers *Handlers, handle func(key types.NamespacedName, initial bool)) error {
	handleItem := func(item any, initial bool) {
		if key, ok := s.inScope(cache.DeletionHandlingObjectToName(item)); ok {
			handle(key, initial)
		}
	}
	return handlers.Add(s.informer, cache.ResourceEventHandlerDetailedFuncs{
		AddFunc:    handleItem,
		UpdateFunc: func(_, item any) { handleItem(item, false) },
		DeleteFunc: func(item any) { handleItem(item, false) },
	})
}

func (s *Summaries) inScope(name cache.ObjectName, err error) (key types.NamespacedName, ok bool) {
	key = types.NamespacedName{Namespace: name.Namespace, Name: name.Name}
	return key, err == nil && s.has(key.Namespace)
}

func (s *Summaries) has(namespace string) bool {
	return len(s.scope) == 0 || slices.Contains(s.scope, namespace)
}
