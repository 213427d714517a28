// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// limitedPatch is a JSON merge patch that a holder of the controller's token tries.
type limitedPatch struct{ name, patch string }

// Changes of a resource that has the label team, the annotation kept, the finalizer
// example.com/kept and no signature.
var (
	allowedOnResources = []limitedPatch{
		{"signature", `{"metadata":{"annotations":{"tekton.dev/signature":"c2lnbmVk"}}}`},
		{"another signature", `{"metadata":{"annotations":{"tekton.dev/signature":"YW5vdGhlcg=="}}}`},
		{"nothing", `{}`},
	}
	refusedOnResources = []limitedPatch{
		{"spec", `{"spec":{"description":"changed"}}`},
		{"spec beside the signature", `{"metadata":{"annotations":{"tekton.dev/signature":"c2lnbmVk"}},"spec":{"description":"changed"}}`},
		{"label", `{"metadata":{"labels":{"team":"other"}}}`},
		{"new label", `{"metadata":{"labels":{"new":"label"}}}`},
		{"removed label", `{"metadata":{"labels":null}}`},
		{"annotation", `{"metadata":{"annotations":{"kept":"changed"}}}`},
		{"new annotation", `{"metadata":{"annotations":{"tekton.dev/signatures":"x"}}}`},
		{"removed annotation", `{"metadata":{"annotations":{"kept":null}}}`},
		{"annotations replaced by the signature", `{"metadata":{"annotations":{"kept":null,"tekton.dev/signature":"c2lnbmVk"}}}`},
		{"finalizer", `{"metadata":{"finalizers":["example.com/kept","example.com/new"]}}`},
		{"removed finalizer", `{"metadata":{"finalizers":null}}`},
		{"owner", `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"x"}]}}`},
	}
	allowedOnRuns = []limitedPatch{
		{"annotation of Chains", `{"metadata":{"annotations":{"chains.tekton.dev/signed":"true"}}}`},
		{"removed annotation of Chains", `{"metadata":{"annotations":{"chains.tekton.dev/signed":null}}}`},
		{"finalizers of Chains", `{"metadata":{"finalizers":["chains.tekton.dev/pipelinerun","example.com/kept","chains.tekton.dev/taskrun","chains.tekton.dev"]}}`},
		{"removed finalizers of Chains", `{"metadata":{"finalizers":["example.com/kept"]}}`},
	}
	refusedOnRuns = []limitedPatch{
		{"cancellation", `{"spec":{"status":"Cancelled"}}`},
		{"label", `{"metadata":{"labels":{"team":"other"}}}`},
		{"new label", `{"metadata":{"labels":{"new":"label"}}}`},
		{"removed label", `{"metadata":{"labels":{"team":null}}}`},
		{"signature", `{"metadata":{"annotations":{"tekton.dev/signature":"c2lnbmVk"}}}`},
		{"annotation beside one of Chains", `{"metadata":{"annotations":{"chains.tekton.dev/signed":"true","kept":"changed"}}}`},
		{"removed annotation", `{"metadata":{"annotations":{"kept":null}}}`},
		{"prefix without a slash", `{"metadata":{"annotations":{"chains.tekton.development":"x"}}}`},
		{"finalizer", `{"metadata":{"finalizers":["example.com/kept","example.com/new"]}}`},
		{"removed finalizer", `{"metadata":{"finalizers":["chains.tekton.dev/taskrun"]}}`},
		{"owner", `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"x"}]}}`},
	}
)

// limitedMeta returns the metadata to which the patches above apply.
func limitedMeta(namespace string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: "limited",
		Labels:      map[string]string{"team": "a"},
		Annotations: map[string]string{"kept": "yes"},
		Finalizers:  []string{"example.com/kept"},
	}
}
