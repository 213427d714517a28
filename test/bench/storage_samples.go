package main

import (
	"context"
	"fmt"
	"slices"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// sample is a resource to store.
type sample struct {
	task     *v1.Task
	checksum []byte
}

// file is a name for a file of its own.
func (s sample) file() string { return s.task.Namespace + "-" + s.task.Name + ".yaml" }

// samples are resources of several namespaces, each of which is a repository of
// its own in the registry.
type samples struct {
	// first has one resource of each namespace, which others follow.
	first, others []sample
}

func (s samples) all() []sample { return slices.Concat(s.first, s.others) }

// newSamples makes so many resources, and another one that comes first in each
// namespace.
func newSamples(ctx context.Context, count, perNamespace int) (samples, error) {
	var made samples
	for i := range count {
		namespace := fmt.Sprintf("namespace-%03d", i/perNamespace)
		if i%perNamespace == 0 {
			s, err := newSample(ctx, namespace, "first")
			if err != nil {
				return made, err
			}
			made.first = append(made.first, s)
		}
		s, err := newSample(ctx, namespace, taskName(i))
		if err != nil {
			return made, err
		}
		made.others = append(made.others, s)
	}
	return made, nil
}

func newSample(ctx context.Context, namespace, name string) (sample, error) {
	task := task(name)
	task.Namespace = namespace
	checksum, err := resource.Checksum(ctx, task)
	return sample{task, checksum}, err
}
