// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"context"
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// Summary is the part of a resource that decides whether the controller signs
// it. The informer caches keep summaries and not the resources, whose specs may
// have hundreds of kilobytes.
type Summary struct {
	Kind            Kind
	Namespace, Name string
	UID             types.UID
	ResourceVersion string
	// Received is when this process received this state, so the state was written
	// before. It is zero if that is not known.
	Received time.Time
	// Deleting reports that the resource has a deletion timestamp.
	Deleting bool
	// Checksums are Tekton's, with defaults set.
	Checksums Checksums
	// RequestedBy and NotAuthorized are the users in the annotations of v1alpha1 with
	// these names. Long names are shortened.
	RequestedBy, NotAuthorized string
	// Signature is the decoded signature; nil if SignatureError is set.
	Signature []byte
	// SignatureError wraps ErrUnsigned or ErrMalformedSignature.
	SignatureError error
}

// Summarize computes the summary of obj. The error says why obj has no checksum.
func Summarize(ctx context.Context, obj Object) (*Summary, error) {
	checksums, err := ChecksumsOf(ctx, obj)
	if err != nil {
		return nil, err
	}
	s := &Summary{
		Kind: KindOf(obj), Namespace: obj.GetNamespace(), Name: obj.GetName(),
		UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion(),
		Deleting:      obj.GetDeletionTimestamp() != nil,
		Checksums:     checksums,
		RequestedBy:   userIn(obj, v1alpha1.RequestedByAnnotation),
		NotAuthorized: userIn(obj, v1alpha1.NotAuthorizedAnnotation),
	}
	s.Signature, s.SignatureError = Signature(obj)
	if errors.Is(s.SignatureError, ErrUnsigned) {
		s.SignatureError = ErrUnsigned // one value for all unsigned resources
	}
	return s, nil
}

// GetObjectMeta implements metav1.ObjectMetaAccessor, with which client-go's
// caches find the key and the resourceVersion of a summary.
func (s *Summary) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{
		Namespace: s.Namespace, Name: s.Name, UID: s.UID, ResourceVersion: s.ResourceVersion,
	}
}

var _ metav1.ObjectMetaAccessor = (*Summary)(nil)

// Key returns the namespace and the name.
func (s *Summary) Key() types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
}
