// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// GateDecision is what the gate did about the Pods of a run.
type GateDecision string

// The decisions. Only GateReleased says that the gate has verified the run before it
// started.
const (
	// GateReleased: the controller removed the gate from the Pods of the run.
	GateReleased GateDecision = "RELEASED"
	// GateRefused: the controller cancelled a TaskRun before its Pod started.
	GateRefused GateDecision = "REFUSED"
	// GateOpened: the controller removed the gate without a verification, because the
	// namespace had lost its label.
	GateOpened GateDecision = "OPENED"
	// GateNotHeld: the namespace does not ask for the gate, or there is no Pod.
	GateNotHeld GateDecision = "NOT_HELD"
	// GateUnknown: the namespace asks for the gate, and this process made no decision:
	// another one did before a restart, or the Pod was never held.
	GateUnknown GateDecision = "UNKNOWN"
)

// Gate is the decision about a run.
type Gate struct {
	Decision GateDecision
	At       time.Time // zero if there is none
	// Policies are the policies that released the run, in the state of that moment.
	// They can differ from those of the attestation.
	Policies []GatePolicy
}

// GatePolicy is a policy in one state.
type GatePolicy struct {
	Name string
	// Cluster: the policy is a ClusterVerificationPolicy.
	Cluster bool
	policy.Revision
}

// maxGatePolicies bounds the policies of a decision in the attestation.
const maxGatePolicies = 100

// GatePolicies returns the policies that gave the verdicts of some records, each once.
func GatePolicies(records []Record) []GatePolicy {
	found := map[GatePolicy]bool{}
	for _, record := range records {
		for _, outcome := range record.Policies {
			if outcome.Policy != "" {
				found[GatePolicy{outcome.Policy, outcome.Rank != nil, outcome.Revision}] = true
			}
		}
	}
	return sortedPolicies(found)
}

func sortedPolicies(found map[GatePolicy]bool) []GatePolicy {
	return slices.SortedFunc(maps.Keys(found), func(a, b GatePolicy) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID), cmp.Compare(a.ResourceVersion, b.ResourceVersion))
	})
}

// severity orders the decisions about the TaskRuns of a PipelineRun: the first one that
// one of them has is the decision about the PipelineRun.
var severity = []GateDecision{GateRefused, GateUnknown, GateNotHeld, GateOpened, GateReleased}

// GateOf returns the decision about a run with TaskRuns.
func GateOf(taskRuns []Gate) Gate {
	all := Gate{Decision: GateNotHeld}
	policies, worst := map[GatePolicy]bool{}, len(severity)
	for _, g := range taskRuns {
		for _, p := range g.Policies {
			policies[p] = true
		}
		rank := slices.Index(severity, g.Decision)
		if rank < worst || rank == worst && g.At.After(all.At) {
			worst, all.Decision, all.At = rank, g.Decision, g.At
		}
	}
	all.Policies = sortedPolicies(policies)
	return all
}

func (g Gate) values() map[string]any {
	values := map[string]any{"decision": string(g.Decision)}
	if !g.At.IsZero() {
		values["decidedAt"] = timestamp(g.At)
	}
	shown := g.Policies[:min(len(g.Policies), maxGatePolicies)]
	policies := make([]any, 0, len(shown))
	for _, p := range shown {
		state := map[string]any{"policyRevision": revisionValues(p.Revision)}
		put(state, "policy", p.Name)
		if p.Cluster {
			state["policyScope"] = clusterScope
		}
		policies = append(policies, state)
	}
	if len(policies) > 0 {
		values["policies"] = policies
	}
	return values
}
