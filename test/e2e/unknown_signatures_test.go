// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"golang.org/x/sync/errgroup"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// createUnknown creates the Tasks task-0 to task-(count-1) with unknown signatures,
// eight at a time.
func createUnknown(ctx context.Context, namespace string, count int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i := range count {
		group.Go(func() error {
			task := newTask(namespace, fmt.Sprintf("task-%d", i), withGarbage)
			_, err := cluster.Tekton.TektonV1().Tasks(namespace).Create(ctx, task, metav1.CreateOptions{})
			return err
		})
	}
	return group.Wait()
}

// Before the controller replaces a signature that it does not know, it reads the
// policies from the API server. Many such signatures share one LIST per second. A
// signature that a policy allows is kept meanwhile, also when the policy and the
// resource are created together.
func TestUnknownSignatures_ShareOneListPerSecond(t *testing.T) {
	e := startController(t)
	const many = 200
	ns := e.namespace()
	theirs, them := e.foreignTask(ns)
	e.createTask(newTask(ns, "first"))
	e.waitSigned(ns, "first")

	e.waitNamespacesDeleted() // the deletion of a namespace takes LISTs of the policies in it
	before, start := e.policyLists(), time.Now()
	e.check(createUnknown(t.Context(), ns, many))
	e.enforcePolicy(ns, v1alpha1.Authority{Name: "them", Key: &v1alpha1.KeyRef{Data: them.publicKeyPEM()}})
	e.createTask(theirs)
	for i := range many {
		e.waitSigned(ns, fmt.Sprintf("task-%d", i))
	}
	took, lists := time.Since(start), e.policyLists()-before
	t.Logf("%d LISTs within %v", lists, took)
	if allowed := 2 + int(took/time.Second); lists > allowed {
		t.Errorf("%d Tasks with unknown signatures caused %d LISTs of policies within %v, want at most %d", many, lists, took, allowed)
	}
	if lists == 0 {
		t.Error("signatures were replaced without a LIST of policies")
	}
	e.check(harness.Verify(t.Context(), e.getTask(ns, "theirs"), them.public))
}

// waitNamespacesDeleted waits until no namespace is being deleted.
func (e *env) waitNamespacesDeleted() {
	e.t.Helper()
	e.eventually(harness.TimeLimit(time.Minute), func() error {
		namespaces, err := cluster.Kube.CoreV1().Namespaces().List(e.t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, ns := range namespaces.Items {
			if ns.DeletionTimestamp != nil {
				return fmt.Errorf("namespace %s is being deleted", ns.Name)
			}
		}
		return nil
	})
}

// policyLists returns how many LISTs of the policies of one namespace the API server
// has answered. Informers list the policies of all namespaces.
func (e *env) policyLists() (count int) {
	e.t.Helper()
	metrics, err := cluster.Kube.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(context.WithoutCancel(e.t.Context()))
	e.check(err)
	for line := range strings.Lines(string(metrics)) {
		if strings.HasPrefix(line, "apiserver_request_total{") &&
			containsAll(line, []string{`resource="verificationpolicies"`, `scope="namespace"`, `verb="LIST"`}) {
			var value int
			_, err := fmt.Sscan(line[strings.LastIndex(line, "}")+1:], &value)
			e.check(err)
			count += value
		}
	}
	return count
}
