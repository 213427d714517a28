// SPDX-License-Identifier: Apache-2.0

//go:build matrix

package matrix

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
	"github.com/trusted-resources/chains-extension/test/tektonreleases"
)

// parallel runs at a time.
const parallel = 8

// applied is an example in the cluster.
type applied struct {
	id              string
	kind            resource.Kind
	namespace, name string
}

// Each release of Tekton accepts all of its own examples that the controller signed, and
// refuses each of them after a change.
func TestExamples_AreAcceptedByEachRelease(t *testing.T) {
	for _, release := range tektonreleases.All {
		t.Run(release, func(t *testing.T) {
			used := release
			if used == tektonreleases.Newest {
				used = ""
			}
			e := start(t, harness.Releases{Tekton: used})
			all, refused := e.applyExamples(release)
			e.expectEach(all, "signed", e.isSigned)
			var run []applied
			for _, a := range all {
				if a.kind != resource.StepAction { // Tekton verifies none
					run = append(run, a)
				}
			}
			e.expectEach(run, "accepted", func(ctx context.Context, a applied) error { return e.expectVerified(ctx, a, corev1.ConditionTrue) })
			e.check(e.controller.Stop(t.Context()))
			e.expectEach(run, "changed", e.change)
			e.expectEach(run, "refused", func(ctx context.Context, a applied) error { return e.expectVerified(ctx, a, corev1.ConditionFalse) })
			t.Logf("Tekton %s: %d examples are signed, %d Tasks and Pipelines of them are accepted, and refused after a change; its webhook refuses %d: %s",
				release, len(all), len(run), len(refused), strings.Join(refused, "; "))
			if len(run) < 50 || len(refused) > 3 {
				t.Errorf("too few examples: %d are accepted, the webhook refuses %d", len(run), len(refused))
			}
		})
	}
}

// expectEach checks all examples, several at a time.
func (e *env) expectEach(all []applied, what string, check func(context.Context, applied) error) {
	e.t.Helper()
	group, ctx := errgroup.WithContext(e.t.Context())
	group.SetLimit(parallel)
	failures := make([]error, len(all))
	for i, a := range all {
		group.Go(func() error {
			if err := check(ctx, a); err != nil {
				failures[i] = fmt.Errorf("%s is not %s: %w", a.id, what, err)
			}
			return nil
		})
	}
	e.check(group.Wait())
	if err := errors.Join(failures...); err != nil {
		e.t.Error(err)
	}
}

// applyExamples creates the examples of a release. Each file gets a namespace of its own,
// because names repeat. refused are those that Tekton's webhook refuses.
func (e *env) applyExamples(release string) (all []applied, refused []string) {
	e.t.Helper()
	dir, err := tektonreleases.Dir(e.t.Context(), release)
	e.check(err)
	examples, err := tektonreleases.Examples(dir)
	e.check(err)
	client, err := dynamic.NewForConfig(e.Admin)
	e.check(err)
	e.enableAlphaFeatures(client)
	namespaces := map[string]string{} // by file
	for _, example := range examples {
		if namespaces[example.File] == "" {
			namespaces[example.File] = e.namespace()
		}
		ns := namespaces[example.File]
		gvk := example.Document.GroupVersionKind()
		gvr := gvk.GroupVersion().WithResource(strings.ToLower(gvk.Kind) + "s")
		example.Document.SetNamespace(ns)
		created, err := client.Resource(gvr).Namespace(ns).Create(e.t.Context(), example.Document, metav1.CreateOptions{})
		if err != nil {
			refused = append(refused, example.ID()+": "+err.Error())
			continue
		}
		all = append(all, applied{example.ID(), resource.Kind(gvk.Kind), ns, created.GetName()})
	}
	return all, refused
}

// enableAlphaFeatures makes Tekton accept the examples that need alpha features, and
// waits until its webhook does.
func (e *env) enableAlphaFeatures(client dynamic.Interface) {
	e.t.Helper()
	_, err := e.Kube.CoreV1().ConfigMaps("tekton-pipelines").Patch(e.t.Context(), "feature-flags", types.MergePatchType,
		[]byte(`{"data":{"enable-api-fields":"alpha","enable-param-enum":"true","enable-artifacts":"true",
			"enable-cel-in-whenexpression":"true","enable-concise-resolver-syntax":"true"}}`), metav1.PatchOptions{})
	e.check(err)
	probe := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "tekton.dev/v1", "kind": "Pipeline",
		"metadata": map[string]any{"name": "probe"},
		"spec": map[string]any{
			"params": []any{map[string]any{"name": "p", "type": "string", "enum": []any{"a"}, "default": "a"}},
			"tasks": []any{map[string]any{
				"name": "t", "taskRef": map[string]any{"name": "t"},
				"when": []any{map[string]any{"cel": "'a' == 'a'"}},
			}},
		},
	}}
	pipelines := client.Resource(schema.GroupVersionResource{Group: "tekton.dev", Version: "v1", Resource: "pipelines"}).Namespace("default")
	e.eventually(func() error {
		_, err := pipelines.Create(e.t.Context(), probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	})
}

func (e *env) isSigned(ctx context.Context, a applied) error {
	return eventually(ctx, func() error {
		object, err := e.Resource(ctx, a.kind, a.namespace, a.name)
		if err == nil && object.GetAnnotations()[trustedresources.SignatureAnnotation] == "" {
			err = errors.New("no signature")
		}
		return err
	})
}

// change changes an example and leaves the signature.
func (e *env) change(ctx context.Context, a applied) (err error) {
	patch := []byte(`{"spec":{"description":"changed"}}`)
	if a.kind == resource.Pipeline {
		_, err = e.Tekton.TektonV1().Pipelines(a.namespace).Patch(ctx, a.name, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}
	_, err = e.Tekton.TektonV1().Tasks(a.namespace).Patch(ctx, a.name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// expectVerified runs an example by reference and waits for the result of Tekton's
// verification. Whether the run then gets its parameters and workspaces does not matter.
func (e *env) expectVerified(ctx context.Context, a applied, want corev1.ConditionStatus) error {
	status, err := e.startRun(ctx, a)
	if err != nil {
		return err
	}
	return eventually(ctx, func() error {
		conditions, err := status()
		if err != nil {
			return err
		}
		verified, succeeded := conditions.GetCondition(trustedresources.ConditionTrustedResourcesVerified), conditions.GetCondition(apis.ConditionSucceeded)
		isRefused := succeeded != nil && succeeded.Reason == refusedReason
		if verified == nil || verified.Status != want || isRefused != (want == corev1.ConditionFalse) {
			return fmt.Errorf("TrustedResourcesVerified is %+v, want %s; Succeeded is %+v", verified, want, succeeded)
		}
		return nil
	})
}

// startRun creates a run of an example. status reads the conditions of the run.
func (e *env) startRun(ctx context.Context, a applied) (status func() (*duckv1.Status, error), err error) {
	ref, meta := harness.ClusterRef(a.kind, a.namespace, a.name), metav1.ObjectMeta{Namespace: a.namespace, GenerateName: "run-"}
	if a.kind == resource.Pipeline {
		runs := e.Tekton.TektonV1().PipelineRuns(a.namespace)
		run, err := runs.Create(ctx, &v1.PipelineRun{ObjectMeta: meta, Spec: v1.PipelineRunSpec{PipelineRef: &v1.PipelineRef{ResolverRef: ref}}}, metav1.CreateOptions{})
		return func() (*duckv1.Status, error) {
			got, err := runs.Get(ctx, run.Name, metav1.GetOptions{})
			return &got.Status.Status, err
		}, err
	}
	runs := e.Tekton.TektonV1().TaskRuns(a.namespace)
	run, err := runs.Create(ctx, &v1.TaskRun{ObjectMeta: meta, Spec: v1.TaskRunSpec{TaskRef: &v1.TaskRef{ResolverRef: ref}}}, metav1.CreateOptions{})
	return func() (*duckv1.Status, error) {
		got, err := runs.Get(ctx, run.Name, metav1.GetOptions{})
		return &got.Status.Status, err
	}, err
}
