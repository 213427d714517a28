// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// Without the labels, and with the setting off, the API server calls the webhook for
// nothing.
func TestWebhook_IsNotCalledWhenItIsOff(t *testing.T) {
	e := startController(t)
	webhook := e.startWebhook("off")
	before := e.countCalls(webhook) // of the harness, which waits for the webhook
	signed, other := e.namespace(), e.namespaceLabelled(nil)
	for _, ns := range []string{signed, other} {
		e.users(ns)
		for _, gvr := range versions {
			n := e.named(ns, gvr, "off-"+gvr.Version)
			e.create(editor, n)
			e.patch(editor, n, `{"spec":{"description":"second"}}`)
			e.expectRequester(n, "", "")
		}
	}
	e.waitSigned(signed, "off-v1")
	run := &v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: other, GenerateName: "run-"},
		Spec:       v1.TaskRunSpec{TaskRef: &v1.TaskRef{Name: "off-v1"}},
	}
	ran, err := cluster.Run(t.Context(), run, soon)
	e.check(err)
	e.expectSuccess(ran)
	pod, err := cluster.Kube.CoreV1().Pods(other).Get(t.Context(), ran.Status.PodName, metav1.GetOptions{})
	e.check(err)
	if len(pod.Spec.SchedulingGates) > 0 || ran.Spec.TaskRef.Resolver != "" {
		t.Errorf("the Pod has gates %v, the run has %+v", pod.Spec.SchedulingGates, ran.Spec.TaskRef)
	}
	if calls := e.auditedCalls(signed, other); len(calls) > 0 {
		t.Errorf("the webhook was called for %v", calls)
	}
	if after := e.countCalls(webhook); after != before { // Pods are not in the audit log
		t.Errorf("the webhook says that it was called %d times", after-before)
	}

	// The counterpart: with the setting it is called in the namespace that is signed.
	e.require("record")
	n := e.named(signed, versionOf("tasks", "v1"), "on")
	e.create(editor, n)
	e.create(editor, e.named(other, n.gvr, "on"))
	if calls := e.auditedCalls(signed, other); len(calls) != 1 || !strings.HasSuffix(calls[0], signed+"/on") {
		t.Errorf("the webhook was called for %v, want only %s", calls, n)
	}
	e.waitSigned(signed, "on")
	if calls := e.auditedCalls(signed); len(calls) != 1 {
		t.Errorf("the webhook was called for the signature: %v", calls)
	}
	e.require("off")
	known := len(e.auditedCalls(signed))
	e.create(editor, e.named(signed, n.gvr, "off-again"))
	if calls := e.auditedCalls(signed); len(calls) != known {
		t.Errorf("after the setting was off: the webhook was called for %v", calls[known:])
	}
}

// countCalls returns how often the webhook was called, by its own metrics.
func (e *env) countCalls(webhook *harness.Webhook) (calls int) {
	e.t.Helper()
	metrics, err := httpGet(e.t.Context(), webhook.MetricsURL)
	e.check(err)
	for line := range strings.Lines(metrics) {
		name, value, found := strings.Cut(strings.TrimSpace(line), "} ")
		if found && strings.Contains(name, "webhook_handler_duration_seconds_count{") {
			count, err := strconv.ParseFloat(value, 64)
			e.check(err)
			calls += int(count)
		}
	}
	if calls == 0 {
		e.t.Fatal("the metrics of the webhook count no call of the harness")
	}
	return calls
}

// auditedCalls returns the writes in some namespaces for which the API server called our
// webhook.
func (e *env) auditedCalls(namespaces ...string) (calls []string) {
	e.t.Helper()
	for entry, err := range cluster.AuditEvents(0) {
		e.check(err)
		if entry.ObjectRef == nil || !strings.Contains(strings.Join(namespaces, " "), entry.ObjectRef.Namespace) {
			continue
		}
		for key, value := range entry.Annotations {
			if strings.HasPrefix(key, "mutation.webhook.admission.k8s.io/") && strings.Contains(value, harness.WebhookConfiguration) {
				calls = append(calls, entry.Verb+" "+entry.ObjectRef.Resource+" "+entry.ObjectRef.Namespace+"/"+entry.ObjectRef.Name)
			}
		}
	}
	return calls
}

// Killed, stopped in the middle, or with another certificate: nobody notices in namespaces
// without a label. In labelled ones, what the webhook must see waits for the webhook.
func TestWebhook_NeverBlocksUnlabelledNamespaces(t *testing.T) {
	e := newEnv(t)
	webhook := e.startWebhook("required")
	unlabelled, labelled := e.namespaceLabelled(nil), e.namespace()
	load := e.writeAll(unlabelled)
	other := e.writeTasks(labelled)
	load.pass(e, 20)
	other.pass(e, 20)
	if n := other.failed.Load(); n > 0 {
		t.Fatalf("%d writes failed while nothing was wrong: %v", n, other.last.Load())
	}

	t.Run("certificate renewed under load", func(t *testing.T) {
		e := e.sub(t)
		before := other.done.Load()
		for range 5 {
			ca := e.trustedAuthority()
			e.check(webhook.RenewCertificate(t.Context()))
			e.eventually(soon, func() error {
				if e.trustedAuthority() == ca {
					return fmt.Errorf("the API server still trusts the authority of before only")
				}
				return nil
			})
			load.pass(e, 10)
			other.pass(e, 10)
		}
		t.Logf("in the labelled namespace, %d of %d writes were refused during 5 renewals; last error: %v", other.failed.Load(), other.done.Load()-before, other.last.Load())
	})
	t.Run("slow", func(t *testing.T) {
		e := e.sub(t)
		part, err := cluster.Part(t.Context(), harness.PartWebhook)
		e.check(err)
		e.check(syscall.Kill(part.PID, syscall.SIGSTOP))
		defer func() { e.check(syscall.Kill(part.PID, syscall.SIGCONT)) }()
		e.expectBlocked(labelled)
		load.pass(e, 20)
	})
	t.Run("killed", func(t *testing.T) {
		e := e.sub(t)
		e.check(webhook.Kill(t.Context()))
		e.expectBlocked(labelled)
		load.pass(e, 20)
		e.check(webhook.Start(t.Context()))
		e.eventually(soon, func() error { return e.write(t.Context(), labelled) })
	})
	load.stop()
	other.stop()
	if n := load.failed.Load(); n > 0 {
		t.Errorf("%d of %d writes in the namespace without a label failed: %v", n, load.done.Load(), load.last.Load())
	}
	if slowest := time.Duration(load.slowest.Load()); slowest > 2*time.Second {
		t.Errorf("a write in the namespace without a label took %v", slowest)
	}
}

// write creates a Task in a dry run.
func (e *env) write(ctx context.Context, namespace string) error {
	_, err := cluster.Tekton.TektonV1().Tasks(namespace).Create(ctx, newTask(namespace, "", func(t *v1.Task) { t.GenerateName = "x-" }),
		metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// expectBlocked requires that a resource cannot be written without the webhook.
func (e *env) expectBlocked(namespace string) {
	e.t.Helper()
	if err := e.write(e.t.Context(), namespace); err == nil || !strings.Contains(err.Error(), "requester.trustedresources.tekton.dev") {
		e.t.Errorf("in the labelled namespace: got %v, want a failure to call the webhook", err)
	}
}

// trustedAuthority returns the newest certificate authority that the API server trusts.
func (e *env) trustedAuthority() string {
	e.t.Helper()
	found, err := cluster.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(e.t.Context(), harness.WebhookConfiguration, metav1.GetOptions{})
	e.check(err)
	const end = "-----END CERTIFICATE-----"
	newest, _, _ := strings.Cut(string(found.Webhooks[0].ClientConfig.CABundle), end)
	return newest
}

// load writes all the time, until stop is called.
type load struct {
	stop         func()
	done, failed atomic.Int64
	slowest      atomic.Int64 // nanoseconds
	last         atomic.Value // string
}

// writeAll writes resources and runs of Tekton, and Pods, in a namespace.
func (e *env) writeAll(namespace string) *load {
	dryRun := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	meta := metav1.ObjectMeta{GenerateName: "x-"}
	client := cluster.Tekton.TektonV1()
	return e.repeat(
		func(ctx context.Context) error { return e.write(ctx, namespace) },
		func(ctx context.Context) error {
			_, err := client.TaskRuns(namespace).Create(ctx, &v1.TaskRun{ObjectMeta: meta, Spec: v1.TaskRunSpec{TaskRef: &v1.TaskRef{Name: "x"}}}, dryRun)
			return err
		},
		func(ctx context.Context) error {
			_, err := client.PipelineRuns(namespace).Create(ctx, &v1.PipelineRun{ObjectMeta: meta, Spec: v1.PipelineRunSpec{PipelineRef: &v1.PipelineRef{Name: "x"}}}, dryRun)
			return err
		},
		func(ctx context.Context) error {
			_, err := cluster.Kube.CoreV1().Pods(namespace).Create(ctx, podOf("TaskRun", "tekton.dev/v1"), dryRun)
			return err
		},
	)
}

func (e *env) writeTasks(namespace string) *load {
	return e.repeat(func(ctx context.Context) error { return e.write(ctx, namespace) })
}

func (e *env) repeat(writes ...func(context.Context) error) *load {
	ctx, cancel := context.WithCancel(e.t.Context())
	e.t.Cleanup(cancel)
	ended := make(chan struct{})
	l := &load{stop: func() { cancel(); <-ended }}
	go func() {
		defer close(ended)
		wait.UntilWithContext(ctx, func(ctx context.Context) {
			for _, write := range writes {
				l.measure(ctx, write)
			}
		}, 10*time.Millisecond)
	}()
	return l
}

// measure counts a write, unless the load was stopped meanwhile.
func (l *load) measure(ctx context.Context, write func(context.Context) error) {
	began := time.Now()
	err := write(ctx)
	if ctx.Err() != nil {
		return
	}
	l.done.Add(1)
	l.slowest.Store(max(l.slowest.Load(), int64(time.Since(began))))
	if err != nil {
		l.failed.Add(1)
		l.last.Store(err.Error())
	}
}

// pass waits until that many more writes have ended.
func (l *load) pass(e *env, writes int64) {
	e.t.Helper()
	until := l.done.Load() + writes
	e.eventually(soon, func() error {
		if done := l.done.Load(); done < until {
			return fmt.Errorf("%d writes have ended, want %d", done, until)
		}
		return nil
	})
}

// podOf returns a Pod with a controller.
func podOf(kind, apiVersion string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName:    "x-",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: apiVersion, Kind: kind, Name: "x", UID: "x", Controller: new(true)}},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "alpine"}}},
	}
}
