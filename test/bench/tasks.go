// SPDX-License-Identifier: Apache-2.0

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

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

const (
	creators     = 16     // workers that create Tasks where creation is not measured
	progressStep = 10_000 // created Tasks between two lines of progress

	deletionPoll    = 200 * time.Millisecond
	deletionTimeout = 15 * time.Minute
)

// optedIn has the label that opts a namespace in to signing.
var optedIn = map[string]string{v1alpha1.SignLabel: "true"}

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

// task returns a Task. All Tasks that are measured have the same spec.
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

// withTasks calls do with the namespace that createTasks creates, and deletes
// the namespace, so that the next measurement runs without the Tasks of this one.
func (b *bench) withTasks(ctx context.Context, labels map[string]string, count int, do func(namespace string) error) error {
	namespace, err := b.createTasks(ctx, labels, count)
	if err != nil {
		return err
	}
	if err := do(namespace); err != nil {
		return err // nothing is measured after an error
	}
	return b.deleteNamespace(ctx, namespace)
}

// createTasks creates a namespace with labels that holds count Tasks, named
// task-00000 and so on.
func (b *bench) createTasks(ctx context.Context, labels map[string]string, count int) (namespace string, err error) {
	ns, err := b.cluster.Kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-", Labels: labels},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	if count > 0 {
		b.log.Printf("%s: creating %d Tasks", ns.Name, count)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(creators)
	for i := range count {
		group.Go(func() error { return b.create(groupCtx, ns.Name, taskName(i)) })
		if (i+1)%progressStep == 0 {
			b.log.Printf("%s: %d of %d Tasks", ns.Name, i+1, count)
		}
	}
	return ns.Name, group.Wait()
}

// deleteNamespace returns when the API server has removed the namespace and all
// objects in the namespace.
func (b *bench) deleteNamespace(ctx context.Context, name string) error {
	b.log.Printf("%s: deleting the namespace", name)
	namespaces := b.cluster.Kube.CoreV1().Namespaces()
	if err := namespaces.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	last := errors.New("no request was sent")
	err := wait.PollUntilContextTimeout(ctx, deletionPoll, deletionTimeout, false, func(ctx context.Context) (bool, error) {
		_, last = namespaces.Get(ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(last), nil
	})
	if err != nil {
		return fmt.Errorf("waiting until namespace %s is deleted: %w (last answer: %w)", name, err, last)
	}
	return nil
}
