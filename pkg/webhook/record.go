// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"
	"strings"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json" // like the API server: case matters

	"github.com/trusted-resources/chains-extension/pkg/admission"
	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// record sets the annotations about the requester of a Task, Pipeline or StepAction.
func (m *mutator) record(ctx context.Context, request *admissionv1.AdmissionRequest) (answer, error) {
	if isDryRunOfTekton(request) {
		return answer{}, nil
	}
	after, annotations, err := requesterIn(request.Object.Raw)
	if err != nil {
		return answer{}, err
	}
	write := admission.Write{Writer: request.UserInfo.Username, After: after}
	if request.Operation == admissionv1.Update {
		if write.Before, _, err = requesterIn(request.OldObject.Raw); err != nil {
			return answer{}, err
		}
		if write.SameContent, err = sameContent(ctx, request); err != nil {
			return answer{}, err
		}
	}
	maySign := false
	if write.NeedsRight() {
		if maySign, err = m.rights.MaySign(ctx, request); err != nil {
			return answer{}, fmt.Errorf("cannot ask whether %s has the right to sign it: %w; try again", write.Writer, err)
		}
	}
	effect, becomes := write.Decide(maySign)
	m.emitter.Emit(ctx, observe.RequesterDecided{
		Kind: request.Kind.Kind, Namespace: request.Namespace, Name: request.Name, Writer: write.Writer, Effect: string(effect),
	})
	return answer{patch: requesterPatch(annotations, becomes), audit: map[string]string{"requester": string(effect)}}, nil
}

// isDryRunOfTekton reports whether Tekton only validates a resource that a resolver
// fetched. Tekton verifies what the API server returns, so that nothing may change. A
// dry run stores nothing, so that the name of the account needs no namespace.
func isDryRunOfTekton(request *admissionv1.AdmissionRequest) bool {
	user := request.UserInfo.Username
	return request.DryRun != nil && *request.DryRun &&
		strings.HasPrefix(user, "system:serviceaccount:") && strings.HasSuffix(user, ":tekton-pipelines-controller")
}

// sameContent reports whether an update changes nothing of the content. In a version
// other than the one that Tekton hashes, the API server shows the stored resource
// converted, so that it may lack what a write in this version removes. Such an update
// therefore counts as a change.
func sameContent(ctx context.Context, request *admissionv1.AdmissionRequest) (bool, error) {
	before, after := emptyOf(request.Kind), emptyOf(request.Kind)
	if before == nil {
		return false, nil
	}
	if err := json.Unmarshal(request.OldObject.Raw, before); err != nil {
		return false, fmt.Errorf("the stored %s cannot be decoded: %w", request.Kind.Kind, err)
	}
	if err := json.Unmarshal(request.Object.Raw, after); err != nil {
		return false, fmt.Errorf("the %s cannot be decoded: %w", request.Kind.Kind, err)
	}
	return resource.SameContent(ctx, before, after)
}

// emptyOf returns an object of a version that Tekton hashes, nil for others.
func emptyOf(kind metav1.GroupVersionKind) resource.Object {
	switch schema.GroupVersionKind(kind) {
	case resource.Task.GroupVersionKind():
		return &v1.Task{}
	case resource.Pipeline.GroupVersionKind():
		return &v1.Pipeline{}
	case resource.StepAction.GroupVersionKind():
		return &v1beta1.StepAction{}
	}
	return nil
}

// requesterIn reads the annotations of an object in JSON.
func requesterIn(object []byte) (r admission.Requester, annotations map[string]string, err error) {
	var meta metav1.PartialObjectMetadata
	if err := json.Unmarshal(object, &meta); err != nil {
		return r, nil, fmt.Errorf("the metadata cannot be decoded: %w", err)
	}
	annotations = meta.GetAnnotations()
	return admission.Requester{
		RequestedBy: annotations[v1alpha1.RequestedByAnnotation], NotAuthorized: annotations[v1alpha1.NotAuthorizedAnnotation],
	}, annotations, nil
}

// requesterPatch changes the annotations of an object to those of a requester. An empty
// value is removed.
func requesterPatch(annotations map[string]string, want admission.Requester) (patch []jsonpatch.Operation) {
	set := func(key, value string) {
		path := "/metadata/annotations/" + strings.ReplaceAll(key, "/", "~1")
		found, exists := annotations[key]
		switch {
		case value == "" && exists:
			patch = append(patch, remove(path))
		case value != "" && value != found:
			if annotations == nil {
				annotations = map[string]string{}
				patch = append(patch, add("/metadata/annotations", map[string]string{}))
			}
			patch = append(patch, add(path, value))
		}
	}
	set(v1alpha1.RequestedByAnnotation, want.RequestedBy)
	set(v1alpha1.NotAuthorizedAnnotation, want.NotAuthorized)
	return patch
}
