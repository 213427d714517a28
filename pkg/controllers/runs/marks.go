// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"context"
	"errors"

	"github.com/tektoncd/chains/pkg/chains"
	"github.com/tektoncd/chains/pkg/chains/objects"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	typedv1 "github.com/tektoncd/pipeline/pkg/client/clientset/versioned/typed/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// signFirst signs a TaskRun in the first of two passes. Chains marks a run as signed
// at the end of each pass. A run is marked once, after its last pass: Chains does not
// look at a marked run again.
func signFirst(ctx context.Context, signer chains.ObjectSigner, obj objects.TektonObject) error {
	marks := &heldMarks{Interface: signer.Pipelineclientset}
	signer.Pipelineclientset = marks
	err := signer.Sign(ctx, obj)
	if err == nil || marks.held == nil {
		return err
	}
	return errors.Join(err, marks.held(ctx)) // the mark counts the attempts
}

// heldMarks is a client that holds the last patch of a TaskRun back.
type heldMarks struct {
	versioned.Interface

	held func(context.Context) error
}

// TektonV1 implements versioned.Interface.
func (m *heldMarks) TektonV1() typedv1.TektonV1Interface {
	return heldTekton{m.Interface.TektonV1(), m}
}

type heldTekton struct {
	typedv1.TektonV1Interface

	marks *heldMarks
}

// TaskRuns implements typedv1.TaskRunsGetter.
func (h heldTekton) TaskRuns(namespace string) typedv1.TaskRunInterface {
	return heldTaskRuns{h.TektonV1Interface.TaskRuns(namespace), h.marks}
}

type heldTaskRuns struct {
	typedv1.TaskRunInterface

	marks *heldMarks
}

// Patch implements typedv1.TaskRunInterface.
func (h heldTaskRuns) Patch(
	_ context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string,
) (*v1.TaskRun, error) {
	h.marks.held = func(ctx context.Context) error {
		_, err := h.TaskRunInterface.Patch(ctx, name, pt, data, opts, subresources...)
		return err
	}
	return &v1.TaskRun{}, nil
}
