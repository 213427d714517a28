package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trusted-resources/chains-extension/pkg/config"
)

const (
	creators = 16 // workers that create Tasks where creation is not measured

	deletionPoll    = 200 * time.Millisecond
	deletionTimeout = 15 * time.Minute
)

// optedIn are the labels of a namespace whose Tasks are to be signed.
var optedIn = map[string]string{config.NamespaceLabel: "true"}

const script = `#!/usr/bin/env bash
set -euo pipefail
echo "Cloning $(params.url) at $(params.revision)"
git init --quiet source
cd source
git remote add origin "$(params.url)"
git fetch --depth=1 origin "$(params.revision)"
git checkout --quiet FETCH_HEAD
git log --max-count=1 --format=%H
du -sh .
`

// task is the one shape of Task that everything is measured with.
func task(name string) *v1.Task {
	return &v1.Task{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1.TaskSpec{
			Description: "Clones a repository.",
			Params: v1.ParamSpecs{
				{Name: "url", Type: v1.ParamTypeString, Description: "Where to clone from."},
				{Name: "revision", Type: v1.ParamTypeString, Default: v1.NewStructuredValues("main")},
			},
			Steps: []v1.Step{{Name: "clone", Image: "docker.io/alpine/git:v2.49.1", Script: script}},
		},
	}
}

func taskName(i int) string { return fmt.Sprintf("task-%05d", i) }

func (b *bench) create(ctx context.Context, namespace, name string) error {
	_, err := b.cluster.Tekton.TektonV1().Tasks(namespace).Create(ctx, task(name), metav1.CreateOptions{})
	return err
}

// withTasks calls do with a new namespace that holds Tasks task-00000 and so on.
// It returns when all of it is deleted, so that what is measured next is alone.
func (b *bench) withTasks(ctx context.Context, labels map[string]string, count int, do func(namespace string) error) error {
	ns, err := b.cluster.Kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-", Labels: labels},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if count > 0 {
		b.log.Printf("%s: creating %d Tasks", ns.Name, count)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(creators)
	for i := range count {
		group.Go(func() error { return b.create(groupCtx, ns.Name, taskName(i)) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := do(ns.Name); err != nil {
		return err // there is nothing more to measure
	}
	b.log.Printf("%s: deleting it", ns.Name)
	return b.deleteNamespace(ctx, ns.Name)
}

func (b *bench) deleteNamespace(ctx context.Context, name string) error {
	namespaces := b.cluster.Kube.CoreV1().Namespaces()
	if err := namespaces.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	last := errors.New("never checked")
	err := wait.PollUntilContextTimeout(ctx, deletionPoll, deletionTimeout, false, func(ctx context.Context) (bool, error) {
		_, last = namespaces.Get(ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(last), nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the deletion of namespace %s: %w (last answer: %w)", name, err, last)
	}
	return nil
}
