// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// webhook is how long a request takes with and without our webhook. All requests are dry
// runs, so that no time for etcd is in them.
type webhook struct {
	Request string       `json:"request"`
	Without webhookTimes `json:"without"`
	With    webhookTimes `json:"with"`
}

type webhookTimes struct {
	Count int          `json:"count"`
	P50   milliseconds `json:"p50Milliseconds"`
	P99   milliseconds `json:"p99Milliseconds"`
}

// webhookWorkers send requests at the same time.
const webhookWorkers = 2

var dryRun = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}

// measureWebhook sends each request to two namespaces: one where the API server calls
// the webhook for the request, and one where it does not.
func (b *bench) measureWebhook(ctx context.Context, o options) (results []webhook, err error) {
	settings := harness.SignAll()
	settings["trustedresources.requester"] = "record"
	installed, err := b.cluster.InstallWebhook(ctx)
	if installed != nil {
		defer func() { err = errors.Join(err, installed.Remove(context.WithoutCancel(ctx))) }()
	}
	if err := errors.Join(err, b.cluster.Configure(ctx, settings)); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.cluster.Configure(context.WithoutCancel(ctx), harness.SignAll())) }()
	plain, err := b.namespaceWith(ctx, nil)
	if err != nil {
		return nil, err
	}
	labelled, err := b.namespaceWith(ctx, map[string]string{v1alpha1.SignLabel: "true", v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce})
	if err != nil {
		return nil, err
	}
	if err := b.waitStamped(ctx, labelled); err != nil {
		return nil, err
	}
	for _, request := range b.webhookRequests() {
		b.log.Printf("%d × %s, with and without the webhook", o.latencyCount(), request.name)
		result := webhook{Request: request.name}
		if result.Without, err = timesOf(ctx, o.latencyCount(), func(ctx context.Context) error { return request.send(ctx, plain) }); err != nil {
			return results, err
		}
		if result.With, err = timesOf(ctx, o.latencyCount(), func(ctx context.Context) error { return request.send(ctx, labelled) }); err != nil {
			return results, err
		}
		results = append(results, result)
	}
	return results, nil
}

type webhookRequest struct {
	name string
	send func(ctx context.Context, namespace string) error
}

func (b *bench) webhookRequests() []webhookRequest {
	meta := metav1.ObjectMeta{GenerateName: "bench-"}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "tekton.dev/v1", Kind: "TaskRun", Name: "x", UID: "x", Controller: new(true)},
		}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "alpine"}}},
	}
	return []webhookRequest{
		{"create a Task (requester)", func(ctx context.Context, namespace string) error {
			_, err := b.cluster.Tekton.TektonV1().Tasks(namespace).Create(ctx, benchTask(), dryRun)
			return err
		}},
		{"create a TaskRun (local reference)", func(ctx context.Context, namespace string) error {
			_, err := b.cluster.Tekton.TektonV1().TaskRuns(namespace).Create(ctx, &v1.TaskRun{
				ObjectMeta: meta, Spec: v1.TaskRunSpec{TaskRef: &v1.TaskRef{Name: "x"}},
			}, dryRun)
			return err
		}},
		{"create a Pod (gate)", func(ctx context.Context, namespace string) error {
			_, err := b.cluster.Kube.CoreV1().Pods(namespace).Create(ctx, pod, dryRun)
			return err
		}},
	}
}

func benchTask() *v1.Task {
	return &v1.Task{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-"},
		Spec:       v1.TaskSpec{Steps: []v1.Step{{Name: "s", Image: "alpine", Script: "echo"}}},
	}
}

func (b *bench) namespaceWith(ctx context.Context, labels map[string]string) (string, error) {
	ns, err := b.cluster.Kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-", Labels: labels},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	err = harness.Eventually(ctx, time.Minute, func(ctx context.Context) error { // a Pod needs this ServiceAccount
		_, err := b.cluster.Kube.CoreV1().ServiceAccounts(ns.Name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	return ns.Name, err
}

var errNotStamped = errors.New("the webhook is not called for resources")

// waitStamped waits until the API server calls the webhook for resources.
func (b *bench) waitStamped(ctx context.Context, namespace string) error {
	return harness.Eventually(ctx, time.Minute, func(ctx context.Context) error {
		made, err := b.cluster.Tekton.TektonV1().Tasks(namespace).Create(ctx, benchTask(), dryRun)
		if err == nil && made.Annotations[v1alpha1.RequestedByAnnotation] == "" {
			err = errNotStamped
		}
		return err
	})
}

// timesOf calls do count times, and some times before that which are not measured.
func timesOf(ctx context.Context, count int, do func(context.Context) error) (webhookTimes, error) {
	const first = 20
	waits := make([]time.Duration, first+count)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(webhookWorkers)
	for i := range waits {
		group.Go(func() error {
			sent := time.Now()
			err := do(ctx)
			waits[i] = time.Since(sent)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return webhookTimes{}, err
	}
	s := summarize(webhookWorkers, waits[first:])
	return webhookTimes{Count: s.Count, P50: s.P50, P99: s.P99}, nil
}

func (t *tables) webhook(results []webhook) {
	t.line("\nRequests with our webhook and without it (dry runs, %d at once)", webhookWorkers)
	t.row("request", "count", "p50 without", "p50 with", "p99 without", "p99 with")
	for _, r := range results {
		t.row(r.Request, r.With.Count, r.Without.P50, r.With.P50, r.Without.P99, r.With.P99)
	}
}
