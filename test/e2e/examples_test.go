// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
	"github.com/trusted-resources/chains-extension/test/tektonreleases"
)

// invalidExamples maps documents that Tekton's own webhook refuses to a part of the
// error. If Tekton accepts one of them, the test fails, so that the entry is removed.
var invalidExamples = map[string]string{
	"v1/pipelineruns/no-ci/compressed-results-pipeline.yaml Task build-many-images": "non-existent variable",
}

// applied names a resource in the cluster.
type applied struct {
	kind            resource.Kind
	namespace, name string
}

// The controller signs every Task, Pipeline and StepAction in Tekton's examples, and
// Tekton's verifier accepts the signatures.
func TestExamples_AreSignedAndAccepted(t *testing.T) {
	e := startController(t)
	count := map[resource.Kind]int{}
	for _, a := range e.applyExamples() {
		e.eventually(soon, func() error {
			obj, err := cluster.Resource(t.Context(), a.kind, a.namespace, a.name)
			if err != nil {
				return err
			}
			return harness.Verify(t.Context(), obj, e.public)
		})
		count[a.kind]++
	}
	t.Logf("signed and accepted by Tekton's verifier: %v", count)
	for _, kind := range resource.Kinds {
		if count[kind] == 0 {
			t.Errorf("no %s among the examples", kind)
		}
	}
}

// applyExamples creates all examples. Each file gets an opted-in namespace of its own,
// because names repeat.
func (e *env) applyExamples() []applied {
	e.t.Helper()
	client, err := dynamic.NewForConfig(cluster.Admin)
	e.check(err)
	e.enableAlphaFeatures()
	var all []applied
	refused := map[string]bool{}
	namespaces := map[string]string{} // by file
	dir, err := harness.ModuleDir(e.t.Context(), harness.ModulePipelines)
	e.check(err)
	examples, err := tektonreleases.Examples(dir)
	e.check(err)
	for _, example := range examples {
		if namespaces[example.File] == "" {
			namespaces[example.File] = e.namespace()
		}
		ns := namespaces[example.File]
		gvk := example.Document.GroupVersionKind()
		gvr := schema.GroupVersionResource{Group: gvk.Group, Version: gvk.Version, Resource: strings.ToLower(gvk.Kind) + "s"}
		example.Document.SetNamespace(ns)
		id := example.ID()
		var created *unstructured.Unstructured
		e.eventually(soon, func() (err error) { // the webhook does not see the new feature flags at once
			created, err = client.Resource(gvr).Namespace(ns).Create(e.t.Context(), example.Document, metav1.CreateOptions{})
			if says, invalid := invalidExamples[id]; invalid && err != nil && strings.Contains(err.Error(), says) {
				refused[id] = true
				return nil
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", id, err)
			}
			return err
		})
		if !refused[id] {
			all = append(all, applied{resource.Kind(gvk.Kind), ns, created.GetName()})
		}
	}
	if len(refused) != len(invalidExamples) {
		e.t.Errorf("Tekton refused %v, want all of %v", refused, invalidExamples)
	}
	return all
}

// enableAlphaFeatures makes Tekton accept the examples that need alpha features.
func (e *env) enableAlphaFeatures() {
	e.t.Helper()
	_, err := cluster.Kube.CoreV1().ConfigMaps("tekton-pipelines").Patch(e.t.Context(), "feature-flags", types.MergePatchType,
		[]byte(`{"data":{"enable-api-fields":"alpha","enable-param-enum":"true","enable-artifacts":"true",
			"enable-cel-in-whenexpression":"true","enable-concise-resolver-syntax":"true"}}`), metav1.PatchOptions{})
	e.check(err)
}
