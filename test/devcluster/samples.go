// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// sample is a resource of config/samples in the namespace of the demo.
type sample struct {
	kind resource.Kind
	name string
}

// samples lists the resources that kubectl has created.
func (d *demonstration) samples(ctx context.Context) ([]sample, error) {
	var found []sample
	tasks := d.Tekton.TektonV1().Tasks(demoNamespace)
	pipelines := d.Tekton.TektonV1().Pipelines(demoNamespace)
	actions := d.Tekton.TektonV1beta1().StepActions(demoNamespace)

	taskList, err := tasks.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, t := range taskList.Items {
		found = append(found, sample{resource.Task, t.Name})
	}
	pipelineList, err := pipelines.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, p := range pipelineList.Items {
		found = append(found, sample{resource.Pipeline, p.Name})
	}
	actionList, err := actions.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, a := range actionList.Items {
		found = append(found, sample{resource.StepAction, a.Name})
	}
	return found, nil
}

// waitSigned waits until Tekton's verifier accepts the signature of a sample.
func (d *demonstration) waitSigned(ctx context.Context, s sample) error {
	err := d.until(ctx, func(ctx context.Context) error {
		obj, err := d.Resource(ctx, s.kind, demoNamespace, s.name)
		if err != nil {
			return err
		}
		return harness.Verify(ctx, obj, d.public)
	})
	if err != nil {
		return fmt.Errorf("%s %s/%s has no valid signature after %v: %w", s.kind, demoNamespace, s.name, demoWait, err)
	}
	return nil
}
