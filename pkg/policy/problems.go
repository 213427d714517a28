// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"k8s.io/apimachinery/pkg/util/sets"
)

// Problem is why a policy fails whatever it is used for.
type Problem string

// The problems.
const (
	// InvalidPattern: a pattern is not a regular expression, or is beyond the limits.
	InvalidPattern Problem = "InvalidPattern"
	// InvalidKey: an authority has no key, or one that cannot be used.
	InvalidKey Problem = "InvalidKey"
	// NoAuthority: the policy has no authorities.
	NoAuthority Problem = "NoAuthority"
)

// Problems returns the problems of a policy that its content alone has. Keys in Secrets and
// in a KMS are not read.
func Problems(ctx context.Context, p *v1alpha1.VerificationPolicy) sets.Set[Problem] {
	found := sets.New[Problem]()
	limits := &limits{}
	for _, r := range p.Spec.Resources {
		if _, err := matches(r.Pattern, "", limits); err != nil {
			found.Insert(InvalidPattern)
		}
	}
	if len(p.Spec.Authorities) == 0 {
		found.Insert(NoAuthority)
	}
	offline := &Keys{}
	for _, a := range p.Spec.Authorities {
		if a.Key != nil && a.Key.Data == "" && (a.Key.SecretRef != nil || a.Key.KMS != "") {
			continue
		}
		if _, err := offline.authority(ctx, inlineOnly{}, p.Namespace, a.Key); err != nil {
			found.Insert(InvalidKey)
		}
	}
	return found
}
