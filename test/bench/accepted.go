// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto"
	"fmt"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/pager"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// countAccepted counts the Tasks whose signature Tekton's verifier accepts. It
// also returns the reason of the first rejection, nil if there is none. It lists
// the Tasks once, in pages, so that it never holds all of them in memory.
func countAccepted(ctx context.Context, list func(context.Context, metav1.ListOptions) (*v1.TaskList, error), public crypto.PublicKey) (accepted int, rejection, err error) {
	pages := pager.New(func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return list(ctx, options)
	})
	pages.FullListIfExpired = false // an expired list fails instead of coming back as one page
	err = pages.EachListItem(ctx, metav1.ListOptions{}, func(item runtime.Object) error {
		task, ok := item.(*v1.Task)
		if !ok {
			return fmt.Errorf("expected a Task in the list, found %T", item)
		}
		switch err := harness.Verify(ctx, task, public); {
		case err == nil:
			accepted++
		case rejection == nil:
			rejection = err
		}
		return nil
	})
	return accepted, rejection, err
}
