// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"

	tektonv1 "github.com/tektoncd/pipeline/pkg/client/clientset/versioned/typed/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// bareAnnotation is the annotation that the bare client writes. The API server lets
// the controller's service account change no other annotation of a Task.
const bareAnnotation = trustedresources.SignatureAnnotation

// bareValue has the length of an ECDSA P-256 signature in base64.
var bareValue = strings.Repeat("x", base64.StdEncoding.EncodedLen(72))

// barePass writes an annotation to each Task of a new backlog, with the service
// account, the kind of request and the concurrency of the controller. The bare
// client reads nothing and computes nothing meanwhile, so its rate is the rate
// at which the API server accepts such writes.
func (b *bench) barePass(ctx context.Context, o options, r *round) error {
	return b.withTasks(ctx, nil, o.count, func(namespace string) error {
		ctx, cancel := context.WithTimeout(ctx, passTimeout(o.count))
		defer cancel()
		client, err := b.bareClient(ctx)
		if err != nil {
			return err
		}
		processes, err := b.processes(ctx)
		if err != nil {
			return err
		}
		patches, err := b.barePatches(ctx, namespace)
		if err != nil {
			return err
		}
		tracker, err := b.track(ctx, namespace)
		if err != nil {
			return err
		}
		b.log.Printf("%s: writing with the bare client", namespace)
		group, groupCtx := errgroup.WithContext(ctx)
		group.Go(func() (err error) {
			r.Bare, err = timePass(groupCtx, tracker, processes, o.count, (*controllerProfile)(nil).recordCPU)
			return err
		})
		group.Go(func() error { return patchAll(groupCtx, client.Tasks(namespace), patches, o.concurrency) })
		return group.Wait()
	})
}

// bareClient acts as the controller's service account: authorization, priority
// and fairness cost it what they cost the controller. The client does not limit
// its own rate.
func (b *bench) bareClient(ctx context.Context) (tektonv1.TektonV1Interface, error) {
	config, err := b.cluster.ServiceAccountConfig(ctx)
	if err != nil {
		return nil, err
	}
	return tektonv1.NewForConfig(config)
}

// barePatch is the JSON merge patch of one Task.
type barePatch struct {
	name string
	data []byte
}

// barePatches encodes the patches before the measurement begins.
func (b *bench) barePatches(ctx context.Context, namespace string) ([]barePatch, error) {
	list, err := b.cluster.Tekton.TektonV1().Tasks(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	patches := make([]barePatch, 0, len(list.Items))
	for _, task := range list.Items {
		data, err := json.Marshal(map[string]any{"metadata": map[string]any{
			"resourceVersion": task.ResourceVersion,
			"annotations":     map[string]string{bareAnnotation: bareValue},
		}})
		if err != nil {
			return nil, err
		}
		patches = append(patches, barePatch{task.Name, data})
	}
	return patches, nil
}

// patchAll sends the patches with a number of workers.
func patchAll(ctx context.Context, tasks tektonv1.TaskInterface, patches []barePatch, workers int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for _, patch := range patches {
		group.Go(func() error {
			_, err := tasks.Patch(ctx, patch.name, types.MergePatchType, patch.data, metav1.PatchOptions{FieldManager: "bench"})
			return err
		})
	}
	return group.Wait()
}
