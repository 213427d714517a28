// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jellydator/ttlcache/v3"
	admissionv1 "k8s.io/api/admission/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

const (
	// rightsTTL is how long an answer is remembered, so that a right that was taken away
	// counts for as long. The policy of config/webhook asks the API server in any case.
	rightsTTL = 10 * time.Second
	// maxRights bounds the answers that are remembered, maxQuestion the size of one
	// question, in bytes. A user has any number of groups.
	maxRights, maxQuestion = 1000, 8 << 10
	// rightsTimeout is shorter than the timeout of the webhook.
	rightsTimeout = 3 * time.Second
)

// Reviews asks whether somebody has a right.
type Reviews interface {
	Create(ctx context.Context, review *authorizationv1.SubjectAccessReview, o metav1.CreateOptions) (*authorizationv1.SubjectAccessReview, error)
}

// rights asks the API server, and remembers the answers for a short time.
type rights struct {
	reviews Reviews
	known   *ttlcache.Cache[string, bool]
}

var _ Rights = (*rights)(nil)

func newRights(reviews Reviews) *rights {
	return &rights{reviews: reviews, known: ttlcache.New(
		ttlcache.WithTTL[string, bool](rightsTTL),
		ttlcache.WithCapacity[string, bool](maxRights),
		ttlcache.WithDisableTouchOnHit[string, bool](),
	)}
}

// MaySign implements Rights.
func (r *rights) MaySign(ctx context.Context, request *admissionv1.AdmissionRequest) (bool, error) {
	question := authorizationv1.SubjectAccessReviewSpec{
		User: request.UserInfo.Username, UID: request.UserInfo.UID, Groups: request.UserInfo.Groups,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: request.Resource.Group, Resource: request.Resource.Resource,
			Namespace: request.Namespace, Name: request.Name, Verb: v1alpha1.SignVerb,
		},
	}
	if len(request.UserInfo.Extra) > 0 {
		question.Extra = map[string]authorizationv1.ExtraValue{}
		for key, value := range request.UserInfo.Extra {
			question.Extra[key] = authorizationv1.ExtraValue(value)
		}
	}
	asked, err := json.Marshal(question)
	if err != nil {
		return false, err
	}
	if known := r.known.Get(string(asked)); known != nil {
		return known.Value(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, rightsTimeout)
	defer cancel()
	review, err := r.reviews.Create(ctx, &authorizationv1.SubjectAccessReview{Spec: question}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	if len(asked) <= maxQuestion {
		r.known.Set(string(asked), review.Status.Allowed, ttlcache.DefaultTTL)
	}
	return review.Status.Allowed, nil
}
