// SPDX-License-Identifier: Apache-2.0

// Package rights asks the API server which of the rights that the work on resources
// needs the controller's service account has. With the ClusterRoles of a stock
// Tekton Chains some of them are missing.
package rights

import (
	"context"
	"strings"

	authorization "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Right is the right to do something with all objects of one type in the cluster.
type Right struct {
	Resource schema.GroupResource
	Verbs    []string
}

// Needed returns the rights that the work on resources needs. config/operator has
// the same list as a ClusterRole. signRuns adds those that only attestations need.
func Needed(signRuns bool) []Right {
	var needed []Right
	for _, kind := range resource.Kinds {
		needed = append(needed, Right{kind.GroupVersionResource().GroupResource(), []string{"get", "list", "watch", "patch"}})
	}
	needed = append(needed,
		Right{schema.GroupResource{Group: "tekton.dev", Resource: "verificationpolicies"}, []string{"list", "watch"}},
		Right{schema.GroupResource{Resource: "namespaces"}, []string{"list", "watch"}})
	if signRuns {
		needed = append(needed, Right{schema.GroupResource{Group: "resolution.tekton.dev", Resource: "resolutionrequests"}, []string{"get"}})
	}
	return needed
}

// NeededByGate returns the rights that the gate needs besides those of Needed(true).
func NeededByGate() []Right {
	return []Right{
		{schema.GroupResource{Resource: "pods"}, []string{"get", "list", "watch", "patch"}},
		{schema.GroupResource{Group: "tekton.dev", Resource: "taskruns"}, []string{"patch"}},
		{schema.GroupResource{Group: "resolution.tekton.dev", Resource: "resolutionrequests"}, []string{"get"}},
	}
}

// Reviews asks whether the own service account has a right. No right is needed to
// ask.
type Reviews interface {
	Create(ctx context.Context, review *authorization.SelfSubjectAccessReview, o metav1.CreateOptions) (*authorization.SelfSubjectAccessReview, error)
}

// askMissing is the right that system:basic-user gives to every user.
const askMissing = "create selfsubjectaccessreviews.authorization.k8s.io"

// missing returns the missing ones of some rights, such as "list, watch
// stepactions.tekton.dev".
func missing(ctx context.Context, reviews Reviews, needed []Right) ([]string, error) {
	var lacking []string
	for _, right := range needed {
		var verbs []string
		for _, verb := range right.Verbs {
			allowed, err := allowed(ctx, reviews, right.Resource, verb)
			if apierrors.IsForbidden(err) {
				return []string{askMissing}, nil
			}
			if err != nil {
				return nil, err
			}
			if !allowed {
				verbs = append(verbs, verb)
			}
		}
		if len(verbs) > 0 {
			lacking = append(lacking, strings.Join(verbs, ", ")+" "+right.Resource.String())
		}
	}
	return lacking, nil
}

func allowed(ctx context.Context, reviews Reviews, r schema.GroupResource, verb string) (bool, error) {
	answer, err := reviews.Create(ctx, &authorization.SelfSubjectAccessReview{
		Spec: authorization.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorization.ResourceAttributes{Group: r.Group, Resource: r.Resource, Verb: verb},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return answer.Status.Allowed, nil
}
