// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"sync"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/tools/cache"

	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// problems are what is wrong with VerificationPolicies. There can be 500,000 policies, so
// each is looked at when it changes, and not at a scrape.
type problems struct {
	mu sync.Mutex
	of map[cache.ObjectName]sets.Set[policy.Problem] // without policies that have none
}

// changed looks at a policy that an informer received, or that is gone.
func (p *problems) changed(ctx context.Context, name cache.ObjectName, item any) {
	found := sets.New[policy.Problem]()
	if current, ok := item.(*v1alpha1.VerificationPolicy); ok {
		found = policy.Problems(ctx, current)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(found) == 0 {
		delete(p.of, name)
		return
	}
	if p.of == nil {
		p.of = map[cache.ObjectName]sets.Set[policy.Problem]{}
	}
	p.of[name] = found
}

func (p *problems) measure() (all []observe.Measurement) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, found := range p.of {
		for problem := range found {
			all = append(all, observe.PolicyProblem(name.Namespace, name.Name, string(problem)))
		}
	}
	return all
}

// PolicyProblems returns the gauges that say which VerificationPolicies cannot be used.
func (s *State) PolicyProblems() []observe.Measurement { return s.problems.measure() }
