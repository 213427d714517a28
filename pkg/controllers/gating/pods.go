// SPDX-License-Identifier: Apache-2.0

package gating

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	kubeinformers "k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// unscheduled selects the Pods that may be held. A Pod leaves the watch when it is
// scheduled, so Pods that run or have finished take no memory here.
var unscheduled = fields.SelectorFromSet(fields.Set{"spec.nodeName": "", "status.phase": string(corev1.PodPending)}).String()

// byTaskRun is the index of Pods by the TaskRun that controls them.
const byTaskRun = "taskRun"

const pageSize = 500

// Rights are those that the gate needs.
type Rights interface {
	// Open calls its argument once the service account has the rights.
	Open(ctx context.Context, open func(context.Context) error) error
}

// pods are the Pods of TaskRuns that wait for a node. They are watched from the first
// call of start.
type pods struct {
	client   typedcorev1.PodsGetter
	factory  kubeinformers.SharedInformerFactory
	informer cache.SharedIndexInformer
	once     sync.Once
}

// selected returns the selection of Pods that are watched.
func selected(o *metav1.ListOptions) {
	o.LabelSelector, o.FieldSelector = pipeline.TaskRunLabelKey, unscheduled
}

func newPods(ctx context.Context, kube kubernetes.Interface) (*pods, error) {
	factory := kubeinformers.NewSharedInformerFactoryWithOptions(kube, controller.GetResyncPeriod(ctx),
		kubeinformers.WithTransform(stripped), kubeinformers.WithTweakListOptions(selected))
	informer := factory.Core().V1().Pods().Informer()
	err := informer.AddIndexers(cache.Indexers{byTaskRun: func(item any) ([]string, error) {
		if key, ok := taskRunOf(item); ok {
			return []string{key.String()}, nil
		}
		return nil, nil
	}})
	return &pods{client: kube.CoreV1(), factory: factory, informer: informer}, err
}

// start starts the watch when the service account has the rights. It does not wait.
func (p *pods) start(ctx context.Context, rights Rights) {
	p.once.Do(func() {
		go func() {
			err := rights.Open(ctx, func(ctx context.Context) error {
				p.factory.Start(ctx.Done())
				return nil
			})
			if err != nil && ctx.Err() == nil {
				logging.FromContext(ctx).Errorw("Cannot watch the Pods of TaskRuns", zap.Error(err))
			}
		}()
	})
}

// anyHeld reports whether the cluster has a Pod that is held, which can be so without
// any namespace with the label. It asks the API server.
func (p *pods) anyHeld(ctx context.Context) (bool, error) {
	options := metav1.ListOptions{Limit: pageSize}
	selected(&options)
	for {
		page, err := p.client.Pods(metav1.NamespaceAll).List(ctx, options)
		if err != nil {
			return false, err
		}
		for i := range page.Items {
			if isHeld(&page.Items[i]) {
				return true, nil
			}
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return false, nil
		}
	}
}

// of returns the Pods of a TaskRun that wait for a node.
func (p *pods) of(taskRun types.NamespacedName) (found []*corev1.Pod) {
	items, err := p.informer.GetIndexer().ByIndex(byTaskRun, taskRun.String())
	if err != nil {
		return nil // not possible: the index exists
	}
	for _, item := range items {
		if pod, ok := item.(*corev1.Pod); ok {
			found = append(found, pod)
		}
	}
	return found
}

// read returns the Pod with a name as the API server has it, if it is held.
func (p *pods) read(ctx context.Context, namespace, name string) ([]*corev1.Pod, error) {
	pod, err := p.client.Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading Pod %s/%s: %w", namespace, name, err)
	}
	return onlyHeld([]*corev1.Pod{pod}), nil
}

func onlyHeld(pods []*corev1.Pod) (held []*corev1.Pod) {
	for _, pod := range pods {
		if isHeld(pod) {
			held = append(held, pod)
		}
	}
	return held
}

// taskRuns returns the TaskRuns with a Pod in the cache.
func (p *pods) taskRuns() (keys []types.NamespacedName) {
	for _, key := range p.informer.GetIndexer().ListIndexFuncValues(byTaskRun) {
		if namespace, name, ok := strings.Cut(key, string(types.Separator)); ok {
			keys = append(keys, types.NamespacedName{Namespace: namespace, Name: name})
		}
	}
	return keys
}

func isHeld(pod *corev1.Pod) bool { return gateAt(pod) >= 0 }

// gateAt returns the index of our gate, negative if there is none.
func gateAt(pod *corev1.Pod) int {
	return slices.IndexFunc(pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == v1alpha1.SchedulingGate })
}

// taskRunOf returns the TaskRun that controls a Pod.
func taskRunOf(item any) (key types.NamespacedName, ok bool) {
	pod, ok := item.(*corev1.Pod)
	if !ok {
		return types.NamespacedName{}, false
	}
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.Kind != pipeline.TaskRunControllerName || !strings.HasPrefix(owner.APIVersion, pipeline.GroupName+"/") {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: pod.Namespace, Name: owner.Name}, true
}

// stripped is a cache.TransformFunc. It keeps of a Pod what a decision needs.
func stripped(item any) (any, error) {
	pod, ok := item.(*corev1.Pod)
	if !ok {
		return item, nil
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
			CreationTimestamp: pod.CreationTimestamp, DeletionTimestamp: pod.DeletionTimestamp, OwnerReferences: pod.OwnerReferences,
		},
		Spec: corev1.PodSpec{SchedulingGates: pod.Spec.SchedulingGates},
	}, nil
}
