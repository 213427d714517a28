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

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Right is the right to do something with all objects of one type.
type Right struct {
	Resource schema.GroupResource
	Verbs    []string
	// Namespace limits the right to the objects of a namespace. Empty means all.
	Namespace string
	// Name limits the right to one object. Empty means all.
	Name string
}

// Needed returns the rights that the work on resources needs. config/operator has
// the same list as ClusterRole and Role. signRuns adds those that only attestations need.
// own is the namespace of the controller.
func Needed(signRuns bool, own string) []Right {
	var needed []Right
	for _, kind := range resource.Kinds {
		needed = append(needed, Right{Resource: kind.GroupVersionResource().GroupResource(), Verbs: []string{"get", "list", "watch", "patch"}})
	}
	needed = append(needed,
		Right{Resource: schema.GroupResource{Group: "tekton.dev", Resource: "verificationpolicies"}, Verbs: []string{"list", "watch"}},
		Right{Resource: schema.GroupResource{Resource: "namespaces"}, Verbs: []string{"list", "watch"}},
		// Without these, it is not known whether a KeyRing says that another key signs.
		Right{Resource: schema.GroupResource{Group: v1alpha1.Group, Resource: "keyrings"}, Verbs: []string{"get", "list"}, Namespace: own},
		Right{Resource: schema.GroupResource{Group: v1alpha1.Group, Resource: "keyrings/status"}, Verbs: []string{"update"}, Namespace: own},
		// Without this one, it is not known which ClusterVerificationPolicies are in force.
		Right{
			Resource: schema.GroupResource{Resource: "configmaps"}, Verbs: []string{"get", "list", "watch"},
			Namespace: v1alpha1.PoliciesNamespace, Name: v1alpha1.ClusterPoliciesConfigMap,
		})
	if signRuns {
		needed = append(needed, Right{Resource: schema.GroupResource{Group: "resolution.tekton.dev", Resource: "resolutionrequests"}, Verbs: []string{"get"}})
	}
	return needed
}

// NeededByGate returns the rights that the gate needs besides those of Needed.
func NeededByGate() []Right {
	return []Right{
		{Resource: schema.GroupResource{Resource: "pods"}, Verbs: []string{"get", "list", "watch", "patch"}},
		{Resource: schema.GroupResource{Group: "tekton.dev", Resource: "taskruns"}, Verbs: []string{"patch"}},
		{Resource: schema.GroupResource{Group: "resolution.tekton.dev", Resource: "resolutionrequests"}, Verbs: []string{"get"}},
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
			allowed, err := allowed(ctx, reviews, right, verb)
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

func allowed(ctx context.Context, reviews Reviews, r Right, verb string) (bool, error) {
	name, subresource, _ := strings.Cut(r.Resource.Resource, "/")
	answer, err := reviews.Create(ctx, &authorization.SelfSubjectAccessReview{
		Spec: authorization.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorization.ResourceAttributes{
				Namespace: r.Namespace, Name: r.Name, Group: r.Resource.Group, Resource: name, Subresource: subresource, Verb: verb,
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return answer.Status.Allowed, nil
}
