// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"golang.org/x/sync/errgroup"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// Four writers change the same resources while the controller signs them. At the end
// all changes are there, and the signatures are valid.
func TestController_KeepsConcurrentChanges(t *testing.T) {
	e := startController(t)
	ns := e.namespace()
	const (
		count   = 50
		writers = 4
		rounds  = 5
	)
	for i := range count {
		e.createTask(newTask(ns, fmt.Sprintf("task-%d", i)))
	}
	group, ctx := errgroup.WithContext(t.Context())
	for writer := range writers {
		group.Go(func() error {
			for round := range rounds {
				for i := range count {
					if err := annotate(ctx, ns, fmt.Sprintf("task-%d", i), fmt.Sprintf("writer-%d", writer), fmt.Sprint(round)); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	e.check(group.Wait())
	for i := range count {
		name := fmt.Sprintf("task-%d", i)
		e.waitSigned(ns, name)
		got := e.getTask(ns, name)
		e.check(harness.Verify(t.Context(), got, e.public))
		for writer := range writers {
			if value := got.Annotations[fmt.Sprintf("writer-%d", writer)]; value != fmt.Sprint(rounds-1) {
				t.Errorf("%s: the last change of writer %d is lost: found %q, want %d", name, writer, value, rounds-1)
			}
		}
	}
}

// annotate reads, changes and writes a Task, and tries again after a conflict.
func annotate(ctx context.Context, namespace, name, key, value string) error {
	tasks := cluster.Tekton.TektonV1().Tasks(namespace)
	backoff := retry.DefaultBackoff
	backoff.Steps = 30
	return retry.RetryOnConflict(backoff, func() error {
		got, err := tasks.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if got.Annotations == nil {
			got.Annotations = map[string]string{}
		}
		got.Annotations[key] = value
		_, err = tasks.Update(ctx, got, metav1.UpdateOptions{})
		return err
	})
}

// createMany creates the Tasks task-0 to task-(count-1), eight at a time.
func (e *env) createMany(namespace string, count int) {
	e.t.Helper()
	group, ctx := errgroup.WithContext(e.t.Context())
	group.SetLimit(8)
	for i := range count {
		group.Go(func() error {
			_, err := cluster.Tekton.TektonV1().Tasks(namespace).Create(ctx, newTask(namespace, fmt.Sprintf("task-%d", i)), metav1.CreateOptions{})
			return err
		})
	}
	e.check(group.Wait())
}

// errInvalid means that a Task has a signature that does not verify.
var errInvalid = errors.New("the signature does not verify")

// checkAllSigned returns an error unless all of count Tasks are signed. An invalid
// signature, which must never exist, is errInvalid.
func (e *env) checkAllSigned(namespace string, count int) error {
	list, err := cluster.Tekton.TektonV1().Tasks(namespace).List(e.t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	signed := 0
	for i := range list.Items {
		switch {
		case signature(&list.Items[i]) == "":
		case harness.Verify(e.t.Context(), &list.Items[i], e.public) != nil:
			return fmt.Errorf("%s: %w", list.Items[i].Name, errInvalid)
		default:
			signed++
		}
	}
	if signed != count {
		return fmt.Errorf("%d of %d are signed", signed, count)
	}
	return nil
}

// waitAllSigned waits until checkAllSigned returns nil. An invalid signature fails the
// test at once.
func (e *env) waitAllSigned(namespace string, count int) {
	e.t.Helper()
	e.eventually(afterFailover, func() error {
		err := e.checkAllSigned(namespace, count)
		if errors.Is(err, errInvalid) {
			e.t.Fatal(err)
		}
		return err
	})
}
