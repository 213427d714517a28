// SPDX-License-Identifier: Apache-2.0

// Package resource has the common view of Tasks, Pipelines and StepActions that
// signing and verification need.
package resource

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// Object is a resource with a checksum of Tekton. Tekton hashes v1 of Task and
// Pipeline, and v1beta1 of StepAction.
type Object interface {
	metav1.Object
	runtime.Object
	apis.Defaultable
	trustedresources.Hashable
}

var (
	_ Object = (*v1.Task)(nil)
	_ Object = (*v1.Pipeline)(nil)
	_ Object = (*v1beta1.StepAction)(nil)
)

// MaxSignatureLength bounds the annotation value that Signature decodes, in
// bytes of base64. An RSA-4096 signature takes 684.
const MaxSignatureLength = 16 << 10

var (
	// ErrUnsigned means that the object has no signature.
	ErrUnsigned = errors.New("no signature")
	// ErrMalformedSignature means that the value of the annotation is not a signature.
	ErrMalformedSignature = errors.New("malformed signature")
)

// Signature decodes the signature in the annotation of obj. The error wraps
// ErrUnsigned or ErrMalformedSignature.
func Signature(obj metav1.Object) ([]byte, error) {
	return DecodeSignature(obj.GetAnnotations()[trustedresources.SignatureAnnotation])
}

// DecodeSignature decodes the value of the annotation as Tekton does (standard
// base64). The error wraps ErrUnsigned or ErrMalformedSignature.
func DecodeSignature(encoded string) ([]byte, error) {
	if encoded == "" {
		return nil, ErrUnsigned
	}
	if len(encoded) > MaxSignatureLength {
		return nil, fmt.Errorf("%w: annotation %s is %d bytes long, expected at most %d",
			ErrMalformedSignature, trustedresources.SignatureAnnotation, len(encoded), MaxSignatureLength)
	}
	signature, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("%w: annotation %s is not base64: %w",
			ErrMalformedSignature, trustedresources.SignatureAnnotation, err)
	}
	return signature, nil
}

// EncodeSignature returns the value of the annotation for a signature.
func EncodeSignature(signature []byte) string {
	return base64.StdEncoding.EncodeToString(signature)
}

// Checksum returns Tekton's SHA-256 of obj in a dialect with defaults set, because
// Tekton calls SetDefaults on a resolved resource before it verifies the resource
// (pkg/reconciler/taskrun/resources in tektoncd/pipeline). Checksum does not change
// obj.
func Checksum(ctx context.Context, obj Object, dialect tekton.Dialect) ([]byte, error) {
	defaulted, err := withDefaults(ctx, obj)
	if err != nil {
		return nil, err
	}
	return dialect.Checksum(defaulted)
}

func withDefaults(ctx context.Context, obj Object) (Object, error) {
	defaulted, ok := obj.DeepCopyObject().(Object)
	if !ok {
		return nil, fmt.Errorf("copy of %T is not a signable resource", obj)
	}
	defaulted.SetDefaults(ctx)
	return defaulted, nil
}

// Signed returns a copy of obj as Tekton verifies it, with the signature in its
// annotation. Defaults are set. The metadata that the API server and kubectl
// maintain is removed, because no signature covers it.
func Signed(ctx context.Context, obj Object, signature []byte) (Object, error) {
	switch obj.(type) {
	case *v1beta1.Task, *v1beta1.Pipeline: //nolint:staticcheck // see KindOf
		return nil, fmt.Errorf("the checksum of a %T differs from the checksum of the served version", obj)
	}
	signed, err := withDefaults(ctx, obj)
	if err != nil {
		return nil, err
	}
	signed.GetObjectKind().SetGroupVersionKind(KindOf(obj).GroupVersionKind())
	signed.SetUID("")
	signed.SetResourceVersion("")
	signed.SetGeneration(0)
	signed.SetSelfLink("")
	signed.SetCreationTimestamp(metav1.Time{})
	signed.SetDeletionTimestamp(nil)
	signed.SetDeletionGracePeriodSeconds(nil)
	signed.SetFinalizers(nil)
	signed.SetOwnerReferences(nil)
	signed.SetManagedFields(nil)
	annotations := maps.Clone(obj.GetAnnotations())
	if annotations == nil {
		annotations = map[string]string{}
	}
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	delete(annotations, clientSideApplyAnnotation)
	annotations[trustedresources.SignatureAnnotation] = EncodeSignature(signature)
	signed.SetAnnotations(annotations)
	return signed, nil
}

// clientSideApplyAnnotation is not part of Tekton's checksum
// (pkg/apis/pipeline/internal/checksum in tektoncd/pipeline).
const clientSideApplyAnnotation = "kubectl-client-side-apply"
