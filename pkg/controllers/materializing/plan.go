// SPDX-License-Identifier: Apache-2.0

package materializing

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// plan is what is to be written into one namespace, in this order: what widens, what
// shrinks, what is deleted. So a source that a policy covered before and after is covered at
// each moment, also if the process ends between two writes.
type plan struct {
	widen, shrink []change
	remove        []*tekton.VerificationPolicy
	states        []state
}

// change replaces a policy, which is nil for a new one.
type change struct {
	before, after *tekton.VerificationPolicy
}

// errOlder means that the namespace has a newer state than the one that this process knows.
var errOlder = errors.New("this process does not know the last state of the ClusterVerificationPolicies yet")

// planOf compares the policies that a namespace should have with those that it has. covered
// reports that the gate enforces what a withdrawn policy did.
func planOf(wanted []policy.Materialized, found []*tekton.VerificationPolicy, covered bool) (*plan, error) {
	p := &plan{}
	for _, m := range wanted {
		var before *tekton.VerificationPolicy
		if i := slices.IndexFunc(found, func(f *tekton.VerificationPolicy) bool { return f.Name == m.Name }); i >= 0 {
			before = found[i]
		}
		if err := p.add(m, before, covered); err != nil {
			return nil, err
		}
	}
	for _, f := range found {
		if policy.IsMaterialized(f) && !slices.ContainsFunc(wanted, func(m policy.Materialized) bool { return m.Name == f.Name }) {
			p.remove = append(p.remove, f)
		}
	}
	return p, nil
}

func (p *plan) add(m policy.Materialized, before *tekton.VerificationPolicy, covered bool) error {
	switch {
	case m.Object == nil && before != nil && policy.IsMaterialized(before):
		if before.Spec.Mode != tekton.ModeWarn && !covered {
			m.Message += "; the VerificationPolicy stays until the gate is in force"
		} else {
			p.remove = append(p.remove, before)
		}
	case m.Object == nil:
	case before == nil:
		p.widen = append(p.widen, change{after: m.Object})
	case isNewer(before, m.Object):
		return fmt.Errorf("VerificationPolicy %s/%s: %w", before.Namespace, before.Name, errOlder)
	case !same(before, m.Object):
		p.replace(before, m.Object)
	}
	p.states = append(p.states, state{policy: m.Policy, synced: m.Object != nil, reason: m.Reason, message: m.Message})
	return nil
}

// replace adds the change of a policy. One that covers more in one place and less in another
// takes two writes.
func (p *plan) replace(before, after *tekton.VerificationPolicy) {
	covers := func(p *tekton.VerificationPolicy, r tekton.ResourcePattern) bool {
		return slices.Contains(p.Spec.Resources, r)
	}
	lost := slices.DeleteFunc(slices.Clone(before.Spec.Resources), func(r tekton.ResourcePattern) bool { return covers(after, r) })
	gains := slices.ContainsFunc(after.Spec.Resources, func(r tekton.ResourcePattern) bool { return !covers(before, r) })
	switch {
	case len(lost) == 0 || !policy.IsMaterialized(before): // what somebody else wrote covered nothing for us
		p.widen = append(p.widen, change{before, after})
	case !gains:
		p.shrink = append(p.shrink, change{before, after})
	default:
		both := after.DeepCopy()
		both.Spec.Resources = append(both.Spec.Resources, lost...)
		p.widen = append(p.widen, change{before, both})
		p.shrink = append(p.shrink, change{both, after})
	}
}

// same reports whether a policy is as it should be. Somebody who may write policies could add
// an owner, with which Kubernetes would delete the policy, or a finalizer.
func same(found, wanted *tekton.VerificationPolicy) bool {
	return equality.Semantic.DeepEqual(found.Spec, wanted.Spec) &&
		equality.Semantic.DeepEqual(found.Labels, wanted.Labels) &&
		equality.Semantic.DeepEqual(found.Annotations, wanted.Annotations) &&
		len(found.OwnerReferences) == 0 && len(found.Finalizers) == 0
}

// isNewer reports whether a policy was made from a later generation of the same
// ClusterVerificationPolicy.
func isNewer(found, wanted *tekton.VerificationPolicy) bool {
	source, generation := generationOf(found)
	wantedSource, wantedGeneration := generationOf(wanted)
	return source == wantedSource && generation > wantedGeneration
}

// generationOf reads v1alpha1.MaterializedAnnotation. The generation is 0 if somebody else
// wrote the annotation.
func generationOf(p *tekton.VerificationPolicy) (source string, generation int64) {
	text := p.Annotations[v1alpha1.MaterializedAnnotation]
	i := strings.LastIndex(text, "/")
	if i < 0 {
		return "", 0
	}
	generation, err := strconv.ParseInt(text[i+1:], 10, 64)
	if err != nil {
		return "", 0
	}
	return text[:i], generation
}

// statesAfter returns the states after the plan was carried out, or failed.
func (p *plan) statesAfter(err error) []state {
	if err == nil {
		return p.states
	}
	failed := slices.Clone(p.states)
	for i := range failed {
		if s := &failed[i]; s.synced && p.changes(policy.MaterializedName(s.policy)) {
			*s = state{policy: s.policy, reason: reasonOf(err), message: err.Error()}
		}
	}
	return failed
}

func (p *plan) changes(name string) bool {
	return slices.ContainsFunc(slices.Concat(p.widen, p.shrink), func(c change) bool { return c.after.Name == name })
}
