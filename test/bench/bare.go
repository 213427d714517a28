package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const bareAnnotation = "example.com/bare"

// bareValue is as long as an ECDSA P-256 signature in base64.
var bareValue = strings.Repeat("x", base64.StdEncoding.EncodedLen(72))

// barePass has a client write to as many Tasks, in requests like the
// controller's, and do nothing else.
func (b *bench) barePass(ctx context.Context, o options, r *round) error {
	return b.withTasks(ctx, nil, o.count, func(namespace string) error {
		ctx, cancel := context.WithTimeout(ctx, passTimeout)
		defer cancel()
		processes, err := b.processes(ctx)
		if err != nil {
			return err
		}
		patches, err := b.barePatches(ctx, namespace)
		if err != nil {
			return err
		}
		tracker, err := b.track(ctx, namespace, bareAnnotation)
		if err != nil {
			return err
		}
		b.log.Printf("%s: the bare client writes", namespace)
		group, groupCtx := errgroup.WithContext(ctx)
		group.Go(func() (err error) {
			r.Bare, err = timePass(groupCtx, tracker, processes, o.count, (*controllerProfile)(nil).recordCPU)
			return err
		})
		group.Go(func() error { return b.patchAll(groupCtx, namespace, patches, o.concurrency) })
		return group.Wait()
	})
}

// barePatch is the JSON merge patch of one Task.
type barePatch struct {
	name string
	data []byte
}

// barePatches prepares all that need not be part of the measurement.
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

func (b *bench) patchAll(ctx context.Context, namespace string, patches []barePatch, workers int) error {
	tasks := b.cluster.Tekton.TektonV1().Tasks(namespace)
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
