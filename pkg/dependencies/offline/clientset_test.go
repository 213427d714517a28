// SPDX-License-Identifier: Apache-2.0

package offline

import (
	"context"
	"errors"
	"testing"

	pipelinev1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// oneStepAction holds one StepAction "compile" in namespace "ns".
type oneStepAction struct{ stepAction *v1beta1.StepAction }

func (o oneStepAction) StepAction(_ context.Context, namespace, name string) (*v1beta1.StepAction, error) {
	if namespace != "ns" || name != "compile" {
		return nil, nil
	}
	return o.stepAction, nil
}

func newClientset(t *testing.T, params ...pipelinev1.ParamSpec) (versioned.Interface, *v1beta1.StepAction) {
	t.Helper()
	stepAction := &v1beta1.StepAction{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "compile"}}
	stepAction.Spec.Params = params
	clientset, err := NewClientset(oneStepAction{stepAction})
	if err != nil {
		t.Fatal(err)
	}
	return clientset, stepAction
}

func TestClientset_GetsStepActionFromReader(t *testing.T) {
	clientset, stepAction := newClientset(t)
	got, err := clientset.TektonV1beta1().StepActions("ns").Get(t.Context(), "compile", metav1.GetOptions{})
	if err != nil || got == stepAction || got.Name != "compile" {
		t.Errorf("got %v and %v, want a copy", got, err)
	}
	if _, err := clientset.TektonV1beta1().StepActions("ns").Get(t.Context(), "lint", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("another name: got %v, want NotFound", err)
	}
}

func TestClientset_AnswersDryRunOfCreation(t *testing.T) {
	clientset, stepAction := newClientset(t, pipelinev1.ParamSpec{Name: "p"})
	dryRun := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	got, err := clientset.TektonV1beta1().StepActions("ns").Create(t.Context(), stepAction, dryRun)
	if err != nil || got.Spec.Params[0].Type != pipelinev1.ParamTypeString {
		t.Errorf("got %v and %v, want defaults", got, err)
	}
}

func TestClientset_RejectsParamNameThatIsNoRegularExpression(t *testing.T) {
	clientset, stepAction := newClientset(t, pipelinev1.ParamSpec{Name: "("})
	dryRun := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	if got, err := clientset.TektonV1beta1().StepActions("ns").Create(t.Context(), stepAction, dryRun); err == nil {
		t.Errorf("creation: got %v, want an error", got)
	}
	if got, err := clientset.TektonV1beta1().StepActions("ns").Get(t.Context(), "compile", metav1.GetOptions{}); err == nil {
		t.Errorf("get: got %v, want an error", got)
	}
}

// Tekton's functions call the clientset in goroutines of their own, where a panic
// ends the process.
func TestClientset_EveryOtherMethodReturnsError(t *testing.T) {
	clientset, stepAction := newClientset(t)
	ctx := t.Context()
	stepActions := clientset.TektonV1beta1().StepActions("ns")
	for name, call := range map[string]func() error{
		"StepActions.Create, no dry run": func() error {
			_, err := stepActions.Create(ctx, stepAction, metav1.CreateOptions{})
			return err
		},
		"StepActions.List":   func() error { _, err := stepActions.List(ctx, metav1.ListOptions{}); return err },
		"StepActions.Watch":  func() error { _, err := stepActions.Watch(ctx, metav1.ListOptions{}); return err },
		"StepActions.Update": func() error { _, err := stepActions.Update(ctx, stepAction, metav1.UpdateOptions{}); return err },
		"StepActions.Patch": func() error {
			_, err := stepActions.Patch(ctx, "compile", types.MergePatchType, []byte("{}"), metav1.PatchOptions{})
			return err
		},
		"StepActions.Delete": func() error { return stepActions.Delete(ctx, "compile", metav1.DeleteOptions{}) },
		"StepActions.DeleteCollection": func() error {
			return stepActions.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		},
		"Tasks.Get": func() error {
			_, err := clientset.TektonV1().Tasks("ns").Get(ctx, "build", metav1.GetOptions{})
			return err
		},
		"Tasks.Create": func() error {
			_, err := clientset.TektonV1().Tasks("ns").Create(ctx, &pipelinev1.Task{}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err
		},
		"Pipelines.List": func() error {
			_, err := clientset.TektonV1().Pipelines("ns").List(ctx, metav1.ListOptions{})
			return err
		},
		"v1beta1 Tasks.Get": func() error {
			_, err := clientset.TektonV1beta1().Tasks("ns").Get(ctx, "build", metav1.GetOptions{})
			return err
		},
		"v1alpha1 StepActions.Create": func() error {
			_, err := clientset.TektonV1alpha1().StepActions("ns").Create(ctx, &v1alpha1.StepAction{}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err
		},
		"RESTClient": func() error { return clientset.TektonV1beta1().RESTClient().Get().Do(ctx).Error() },
		"Discovery":  func() error { _, err := clientset.Discovery().ServerVersion(); return err },
	} {
		t.Run(name, func(t *testing.T) {
			if err := call(); !errors.Is(err, ErrOffline) {
				t.Errorf("got %v, want %v", err, ErrOffline)
			}
		})
	}
}
