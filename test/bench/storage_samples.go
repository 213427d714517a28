// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// sample is a resource to store.
type sample struct {
	task     *v1.Task
	checksum []byte
}

// file returns the name of the manifest file, which is unique among samples.
func (s sample) file() string { return s.task.Namespace + "-" + s.task.Name + ".yaml" }

// samples has resources of several namespaces. Each namespace is one repository
// in the registry.
type samples struct {
	// initial has one resource of each namespace. It is stored first, so that the
	// repositories exist when the following resources are measured.
	initial, following []sample
}

func (s samples) all() []sample { return slices.Concat(s.initial, s.following) }

// newSamples returns count following resources, and the initial resource of each
// namespace.
func newSamples(ctx context.Context, count, perNamespace int) (samples, error) {
	var made samples
	for i := range count {
		namespace := fmt.Sprintf("namespace-%03d", i/perNamespace)
		if i%perNamespace == 0 {
			s, err := newSample(ctx, namespace, "initial")
			if err != nil {
				return made, err
			}
			made.initial = append(made.initial, s)
		}
		s, err := newSample(ctx, namespace, taskName(i))
		if err != nil {
			return made, err
		}
		made.following = append(made.following, s)
	}
	return made, nil
}

func newSample(ctx context.Context, namespace, name string) (sample, error) {
	task := task(name)
	task.Namespace = namespace
	checksum, err := resource.Checksum(ctx, task, tekton.Newest)
	return sample{task, checksum}, err
}
