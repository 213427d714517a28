// SPDX-License-Identifier: Apache-2.0

//go:build rotation

package e2e

import (
	"context"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// Kinds of objects that tests follow.
var (
	keyRingsResource   = v1alpha1.SchemeGroupVersion.WithResource("keyrings")
	tasksResource      = schema.GroupVersionResource{Group: "tekton.dev", Version: "v1", Resource: "tasks"}
	taskRunsResource   = schema.GroupVersionResource{Group: "tekton.dev", Version: "v1", Resource: "taskruns"}
	policiesResource   = schema.GroupVersionResource{Group: "tekton.dev", Version: "v1alpha1", Resource: "verificationpolicies"}
	configMapsResource = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	leasesResource     = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
)

// follow calls see with each state that is written to the objects of a kind from now on,
// until the test ends. A watch leaves out no write.
func (e *env) follow(kind schema.GroupVersionResource, namespace string, see func(*unstructured.Unstructured)) {
	e.t.Helper()
	client, err := dynamic.NewForConfig(cluster.Admin)
	e.check(err)
	objects := client.Resource(kind).Namespace(namespace)
	list, err := objects.List(e.t.Context(), metav1.ListOptions{Limit: 1})
	e.check(err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(e.t.Context())) // the cleanup below ends it
	watcher, err := watchtools.NewRetryWatcherWithContext(ctx, list.GetResourceVersion(), &cache.ListWatch{WatchFuncWithContext: objects.Watch})
	if err != nil {
		cancel()
		e.t.Fatal(err)
	}
	go func() {
		for event := range watcher.ResultChan() {
			object, ok := event.Object.(*unstructured.Unstructured)
			if !ok {
				e.t.Errorf("the watch of %s has a gap: %v", kind.Resource, event.Object)
				continue
			}
			see(object)
		}
	}()
	e.t.Cleanup(func() {
		cancel()
		<-watcher.Done()
	})
}

// decode returns an object in its own type.
func decode[T any](e *env, object *unstructured.Unstructured) (typed T) {
	e.t.Helper()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &typed); err != nil {
		e.t.Error(err)
	}
	return typed
}

// orderOf returns the place of a write in the order of all writes: all objects are in one
// etcd.
func orderOf(object metav1.Object) uint64 {
	version, _ := strconv.ParseUint(object.GetResourceVersion(), 10, 64) // the API server made it
	return version
}

// hurryLeases makes replicas that start before the test ends take over faster.
func (e *env) hurryLeases() {
	e.t.Helper()
	const name = "tekton-chains-config-leader-election"
	maps := cluster.Kube.CoreV1().ConfigMaps(harness.SystemNamespace)
	found, err := maps.Get(e.t.Context(), name, metav1.GetOptions{})
	e.check(err)
	set := func(ctx context.Context, data map[string]string) error {
		found.Data = data
		var err error
		found, err = maps.Update(ctx, found, metav1.UpdateOptions{})
		return err
	}
	before := found.Data
	e.check(set(e.t.Context(), with(before, map[string]string{"lease-duration": "4s", "renew-deadline": "3s", "retry-period": "1s"})))
	e.cleanup(func() error { return set(cleanupContext(), before) })
}
