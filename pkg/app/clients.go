// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"net/http"

	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/audit"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/annotation"
)

// objects reads resources from the API server. The informer caches hold summaries
// only.
type objects struct{ client versioned.Interface }

// Object returns a resource as the API server has it now, or nil if there is none.
func (o objects) Object(ctx context.Context, kind resource.Kind, namespace, name string) (resource.Object, error) {
	if namespace == "" || name == "" {
		return nil, nil //nolint:nilnil // a resolver may return a resource without a name
	}
	object, err := o.get(ctx, kind, namespace, name)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, err
	}
	return object, nil
}

func (o objects) get(ctx context.Context, kind resource.Kind, namespace, name string) (resource.Object, error) {
	switch kind {
	case resource.Task:
		return o.client.TektonV1().Tasks(namespace).Get(ctx, name, metav1.GetOptions{})
	case resource.Pipeline:
		return o.client.TektonV1().Pipelines(namespace).Get(ctx, name, metav1.GetOptions{})
	case resource.StepAction:
		return o.client.TektonV1beta1().StepActions(namespace).Get(ctx, name, metav1.GetOptions{})
	}
	return nil, fmt.Errorf("kind %q is not signable", kind)
}

// patcher writes annotations. The API server answers with metadata only, because
// the spec would have to be encoded and decoded for each signature.
type patcher struct{ client metadata.Interface }

var _ annotation.Patcher = patcher{}

func newPatcher(cfg *rest.Config) patcher {
	cfg = rest.CopyConfig(cfg)
	cfg.Wrap(func(base http.RoundTripper) http.RoundTripper { return attemptIDs{base} })
	return patcher{metadata.NewForConfigOrDie(cfg)}
}

// attemptIDs sends the attempt that a request belongs to, so that the audit log of the API
// server has it.
type attemptIDs struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t attemptIDs) RoundTrip(request *http.Request) (*http.Response, error) {
	if attempt := audit.AttemptOf(request.Context()); attempt != "" {
		request = request.Clone(request.Context())
		request.Header.Set(auditv1.HeaderAuditID, attempt)
	}
	return t.base.RoundTrip(request)
}

// Patch implements annotation.Patcher.
func (p patcher) Patch(ctx context.Context, kind resource.Kind, namespace, name string, mergePatch []byte) (metav1.Object, error) {
	patched, err := p.client.Resource(kind.GroupVersionResource()).Namespace(namespace).
		Patch(ctx, name, types.MergePatchType, mergePatch, metav1.PatchOptions{FieldManager: v1alpha1.Group})
	if err != nil {
		return nil, err
	}
	return patched, nil
}

// secrets reads Secrets one by one. To watch Secrets, the controller would need
// the right to list all of them.
type secrets struct{ client corev1.SecretsGetter }

var _ policy.Secrets = secrets{}

// Secret implements policy.Secrets.
func (s secrets) Secret(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	secret, err := s.client.Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return secret.Data, nil
}
