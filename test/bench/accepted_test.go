// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/test/harness"
)

func TestCountAccepted_ReadsAllPagesAndReportsARejection(t *testing.T) {
	signer, err := harness.NewSigner()
	check(t, err)
	public, err := signer.PublicKey()
	check(t, err)
	signed := func(name string) v1.Task {
		task := task(name)
		check(t, signer.Sign(t.Context(), task))
		return *task
	}
	pages := map[string]*v1.TaskList{
		"":       {ListMeta: metav1.ListMeta{Continue: "second"}, Items: []v1.Task{signed("a"), *task("unsigned")}},
		"second": {Items: []v1.Task{signed("b"), *task("unsigned-2")}},
	}
	list := func(_ context.Context, options metav1.ListOptions) (*v1.TaskList, error) {
		if options.Limit != 500 {
			t.Errorf("listed with limit %d", options.Limit)
		}
		return pages[options.Continue], nil
	}
	accepted, rejection, err := countAccepted(t.Context(), list, public)
	check(t, err)
	if accepted != 2 {
		t.Errorf("got %d accepted Tasks, want 2", accepted)
	}
	if rejection == nil {
		t.Error("got no rejection")
	}
}
