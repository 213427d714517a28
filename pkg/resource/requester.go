// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"bytes"
	"context"
	"strings"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// SameContent reports whether two states of a resource have the same content: the
// same checksum with defaults set, apart from the annotations about the requester.
func SameContent(ctx context.Context, before, after Object) (bool, error) {
	was, err := contentOf(ctx, before)
	if err != nil {
		return false, err
	}
	is, err := contentOf(ctx, after)
	return bytes.Equal(was, is), err
}

func contentOf(ctx context.Context, obj Object) ([]byte, error) {
	defaulted, err := withDefaults(ctx, obj)
	if err != nil {
		return nil, err
	}
	delete(defaulted.GetAnnotations(), v1alpha1.RequestedByAnnotation) // of the copy
	delete(defaulted.GetAnnotations(), v1alpha1.NotAuthorizedAnnotation)
	return defaulted.Checksum()
}

// maxUser bounds the names of users that are kept in memory, in bytes.
const maxUser = 256

// userIn returns the user in an annotation.
func userIn(obj Object, annotation string) string {
	user := obj.GetAnnotations()[annotation]
	if len(user) > maxUser {
		user = strings.Clone(user[:maxUser]) // lets go of the rest
	}
	return strings.ToValidUTF8(user, "\uFFFD")
}
