// SPDX-License-Identifier: Apache-2.0

package informers

import (
	"context"
	"errors"
	"fmt"

	"github.com/tektoncd/pipeline/pkg/client/informers/externalversions"
	policyinformers "github.com/tektoncd/pipeline/pkg/client/informers/externalversions/pipeline/v1alpha1"
	pipelineclient "github.com/tektoncd/pipeline/pkg/client/injection/client"
	kubeinformers "k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	"knative.dev/pkg/controller"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Watched has the informers that the work on resources needs, and their handlers.
// Knative does not start these informers: without the right to list an object,
// knative would wait for ever, and Chains' controllers would not start either.
type Watched struct {
	Handlers

	resources, policies externalversions.SharedInformerFactory
	namespaces          kubeinformers.SharedInformerFactory
	informerOf          map[resource.Kind]cache.SharedIndexInformer
}

// NewWatched makes the informers with the clients of the context. The caches of
// resources keep summaries.
func NewWatched(ctx context.Context) (*Watched, error) {
	client, resync := pipelineclient.Get(ctx), controller.GetResyncPeriod(ctx)
	w := &Watched{
		resources:  externalversions.NewSharedInformerFactory(client, resync),
		policies:   externalversions.NewSharedInformerFactory(client, resync),
		namespaces: kubeinformers.NewSharedInformerFactory(kubeclient.Get(ctx), resync),
	}
	v1, v1beta1 := w.resources.Tekton().V1(), w.resources.Tekton().V1beta1()
	w.informerOf = map[resource.Kind]cache.SharedIndexInformer{
		resource.Task:       v1.Tasks().Informer(),
		resource.Pipeline:   v1.Pipelines().Informer(),
		resource.StepAction: v1beta1.StepActions().Informer(),
	}
	for kind, informer := range w.informerOf {
		transform := func(item any) (any, error) { return summarize(ctx, item) }
		if err := informer.SetTransform(transform); err != nil {
			return nil, fmt.Errorf("informer of kind %s: %w", kind, err)
		}
	}
	return w, nil
}

// Visit calls visit with the summary of each resource in the caches.
func (w *Watched) Visit(visit func(*resource.Summary)) {
	for kind := range w.informerOf {
		w.Summaries(kind, nil).Visit(visit)
	}
}

// Policies returns the informer of VerificationPolicies.
func (w *Watched) Policies() policyinformers.VerificationPolicyInformer {
	return w.policies.Tekton().V1alpha1().VerificationPolicies()
}

// Namespaces returns the informer of namespaces.
func (w *Watched) Namespaces() coreinformers.NamespaceInformer {
	return w.namespaces.Core().V1().Namespaces()
}

// errNotRead means that the context ended first.
var errNotRead = errors.New("the policies and namespaces of the cluster were not read")

// Start starts the informers. It returns when the caches have all policies and
// namespaces: decisions and attestations depend on them.
func (w *Watched) Start(ctx context.Context) error {
	w.policies.Start(ctx.Done())
	w.namespaces.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), w.Policies().Informer().HasSynced, w.Namespaces().Informer().HasSynced) {
		return errNotRead
	}
	w.resources.Start(ctx.Done())
	return nil
}
