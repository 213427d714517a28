// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	honestUser = "soak-honest"
	// signatureTimeout is how long an honest Task may wait before it counts as
	// unsigned.
	signatureTimeout = time.Minute
	// keptTasks is the number of honest Tasks that exist at the same time. Older ones
	// are deleted, because more Tasks need more memory.
	keptTasks = 500
)

// honest is what the honest tenant got.
type honest struct {
	PerSecond float64 `json:"perSecond"`
	// Signature is from the API server's answer to the create request until a watch
	// delivers the signature.
	Signature latency `json:"signature"`
	// Create is the time that the API server takes for a create request of the honest
	// tenant.
	Create latency `json:"create"`
	// Unsigned is the number of Tasks without a signature after signatureTimeout.
	Unsigned int `json:"unsigned"`
	// Errors is the number of requests that failed.
	Errors int `json:"errors"`
}

// honestTenant creates Tasks at a fixed rate and deletes old ones.
type honestTenant struct {
	namespace string
	rate      int
	tekton    versioned.Interface
	tracker   *tracker
	tell      func(format string, args ...any)

	mu               sync.Mutex
	signed, created  []time.Duration
	unsigned, errors int
}

func (b *bench) newHonest(ctx context.Context, o options) (*honestTenant, error) {
	namespace, err := b.tenantNamespace(ctx, honestUser, honestUser, optedIn)
	if err != nil {
		return nil, err
	}
	tekton, err := versioned.NewForConfig(b.as(honestUser))
	if err != nil {
		return nil, err
	}
	tracker, err := b.track(ctx, namespace)
	return &honestTenant{namespace: namespace, rate: o.honestRate, tekton: tekton, tracker: tracker, tell: b.log.Printf}, err
}

// first waits for a signature that is not measured, because it waits for the leader
// election.
func (h *honestTenant) first(ctx context.Context) error {
	if _, err := h.tekton.TektonV1().Tasks(h.namespace).Create(ctx, task("first"), metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err := h.tracker.waitTask(ctx, "first")
	return err
}

// run creates Tasks until the context ends. Tasks that wait for a signature at that
// time still get it.
func (h *honestTenant) run(ctx context.Context) error {
	ticker := time.NewTicker(time.Second / time.Duration(h.rate))
	defer ticker.Stop()
	waiting := new(errgroup.Group)
	waiting.SetLimit(h.rate * int(signatureTimeout/time.Second))
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return waiting.Wait()
		case <-ticker.C:
			waiting.Go(func() error { return h.one(context.WithoutCancel(ctx), i) })
		}
	}
}

// one creates a Task, waits for its signature, and deletes an older Task. The error
// means that nothing can be measured any more.
func (h *honestTenant) one(ctx context.Context, i int) error {
	waiting, cancel := context.WithTimeout(ctx, signatureTimeout)
	defer cancel()
	sent := time.Now()
	if !h.create(waiting, taskName(i)) {
		return nil
	}
	answered := time.Now()
	signed, err := h.tracker.waitTask(waiting, taskName(i))
	if errors.Is(err, context.DeadlineExceeded) {
		h.failed(&h.unsigned, "%s has no signature after %v", taskName(i), signatureTimeout)
		return nil
	}
	if err != nil {
		return err
	}
	h.count(func() { // the watch may be faster than the answer
		h.created, h.signed = append(h.created, answered.Sub(sent)), append(h.signed, max(0, signed.Sub(answered)))
	})
	if i >= keptTasks {
		h.remove(ctx, taskName(i-keptTasks))
	}
	return nil
}

func (h *honestTenant) create(ctx context.Context, name string) (ok bool) {
	_, err := h.tekton.TektonV1().Tasks(h.namespace).Create(ctx, task(name), metav1.CreateOptions{})
	if err != nil {
		h.failed(&h.errors, "creating %s: %v", name, err)
	}
	return err == nil
}

func (h *honestTenant) remove(ctx context.Context, name string) {
	err := h.tekton.TektonV1().Tasks(h.namespace).Delete(ctx, name, metav1.DeleteOptions{})
	if ignoreNotFound(err) != nil {
		h.failed(&h.errors, "deleting %s: %v", name, err)
	}
}

// failed counts and reports a failure. The soak goes on.
func (h *honestTenant) failed(counter *int, format string, args ...any) {
	h.tell("soak: honest tenant: "+format, args...)
	h.count(func() { *counter++ })
}

func (h *honestTenant) count(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

// since describes the Tasks after the first n that were signed, and returns how many
// there are now.
func (h *honestTenant) since(n int) (text string, now int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	text = fmt.Sprintf("honest: %d signed, %d unsigned, %d errors", len(h.signed), h.unsigned, h.errors)
	if recent := slices.Clone(h.signed[n:]); len(recent) > 0 {
		l := summarize(0, recent)
		text += fmt.Sprintf(", lately p50 %v, p99 %v", l.P50, l.P99)
	}
	return text, len(h.signed)
}

func (h *honestTenant) result() honest {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := honest{PerSecond: float64(h.rate), Unsigned: h.unsigned, Errors: h.errors}
	if len(h.signed) > 0 {
		r.Signature, r.Create = summarize(0, h.signed), summarize(0, h.created)
	}
	return r
}
