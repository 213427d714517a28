// SPDX-License-Identifier: Apache-2.0

package rights

import (
	"context"
	"errors"
	"fmt"
	"time"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// RequesterPolicy is the name of the ValidatingAdmissionPolicy in config/webhook, and of
// its binding, that keep everybody from forging a requester.
const RequesterPolicy = "requester.trustedresources.tekton.dev"

// Policies reads ValidatingAdmissionPolicies and their bindings.
type Policies interface {
	Policy(ctx context.Context, name string) (*registrationv1.ValidatingAdmissionPolicy, error)
	Binding(ctx context.Context, name string) (*registrationv1.ValidatingAdmissionPolicyBinding, error)
}

// Requester finds out whether the requesters in resources can be relied upon: nobody can
// forge them, and the own service account, which writes all resources, does not have the
// right to sign.
type Requester struct {
	Reviews  Reviews
	Policies Policies
	// Wanted reports whether resources record a requester. Otherwise nothing is asked.
	Wanted func() bool
	// Found is called when the answer has changed, with nil if they can be relied upon.
	Found func(ctx context.Context, unsafe error)
	Clock clock.PassiveClock
}

const (
	requesterInterval = 15 * time.Second // between two questions
	wantedInterval    = time.Second      // between two looks at the setting
)

// Run asks in the background until ctx ends.
func (r Requester) Run(ctx context.Context) {
	var next time.Time
	last := errors.New("nothing was found yet")
	look := func(ctx context.Context) {
		now := r.Clock.Now()
		if !r.Wanted() {
			next = time.Time{} // ask at once when the setting changes
			return
		}
		if now.Before(next) {
			return
		}
		next = now.Add(requesterInterval)
		if unsafe := r.ask(ctx); fmt.Sprint(unsafe) != fmt.Sprint(last) {
			last = unsafe
			r.Found(ctx, unsafe)
		}
	}
	go wait.UntilWithContext(ctx, look, wantedInterval)
}

// ask returns why requesters cannot be relied upon.
func (r Requester) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for _, kind := range resource.Kinds {
		about := kind.GroupVersionResource().GroupResource()
		switch has, err := allowed(ctx, r.Reviews, Right{Resource: about}, v1alpha1.SignVerb); {
		case err != nil:
			return fmt.Errorf("cannot ask whether the service account of the controller has the verb %s: %w", v1alpha1.SignVerb, err)
		case has:
			return fmt.Errorf("the service account of the controller has the verb %s on %s, so that its writes would count as those of a requester; "+
				"remove the role that gives it, which may have verbs: [\"*\"]", v1alpha1.SignVerb, about)
		}
	}
	policy, err := r.Policies.Policy(ctx, RequesterPolicy)
	if err != nil {
		return missingPolicy("ValidatingAdmissionPolicy", err)
	}
	binding, err := r.Policies.Binding(ctx, RequesterPolicy)
	if err != nil {
		return missingPolicy("ValidatingAdmissionPolicyBinding", err)
	}
	if !inForce(policy, binding) {
		return missingPolicy("ValidatingAdmissionPolicyBinding", errors.New("it does not deny every write that the policy refuses"))
	}
	return nil
}

func missingPolicy(kind string, err error) error {
	return fmt.Errorf("the %s %s does not keep everybody from forging a requester: %w; apply config/webhook", kind, RequesterPolicy, err)
}

// inForce reports whether the policy is bound in all namespaces and denies.
func inForce(policy *registrationv1.ValidatingAdmissionPolicy, binding *registrationv1.ValidatingAdmissionPolicyBinding) bool {
	denies := false
	for _, action := range binding.Spec.ValidationActions {
		denies = denies || action == registrationv1.Deny
	}
	fails := policy.Spec.FailurePolicy == nil || *policy.Spec.FailurePolicy == registrationv1.Fail
	return denies && fails && len(policy.Spec.Validations) > 0 && binding.Spec.PolicyName == policy.Name && binding.Spec.MatchResources == nil
}
