// SPDX-License-Identifier: Apache-2.0

// Package gate decides whether a TaskRun may start: a pure function of the records of
// what stands behind the TaskRun, and of the settings.
package gate

import (
	"strings"

	"github.com/trusted-resources/chains-extension/pkg/attestation"
	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// Action is what happens to a TaskRun.
type Action string

// The actions.
const (
	// Release starts the TaskRun.
	Release Action = "release"
	// Refuse ends the TaskRun before it starts.
	Refuse Action = "refuse"
	// Wait decides again later: something is not known now that can be known later.
	Wait Action = "wait"
)

// Decision is the decision about one TaskRun.
type Decision struct {
	Action Action
	// Message says why a TaskRun is refused, and what to do; or what it waits for.
	Message string
	// Warnings describe what a TaskRun was released in spite of.
	Warnings []string
	// Policies released the TaskRun.
	Policies []attestation.GatePolicy
}

// Decide returns the decision about a TaskRun. A resource that certainly may not run
// decides, whatever is unknown about others. Only a record of a known resource that
// passed, or that the settings or a policy in mode warn let through, releases.
func Decide(records []attestation.Record, overrides []string, settings config.Gate) Decision {
	var refused, waiting, warnings []string
	if len(records) == 0 {
		refused = append(refused, "the run refers to no Task and has no spec")
	}
	for _, record := range records {
		switch action, text := judge(record, settings); {
		case action == Refuse:
			refused = append(refused, text)
		case action == Wait:
			waiting = append(waiting, text)
		case text != "":
			warnings = append(warnings, text)
		}
	}
	if forbidden := executing(overrides); settings.Overrides != config.GateAllow && len(forbidden) > 0 {
		refused = append(refused, "the run sets "+strings.Join(forbidden, ", ")+
			", which no signature covers, and trustedresources.gate.overrides is refuse: remove these fields from the run")
	}
	switch {
	case len(refused) > 0:
		return Decision{Action: Refuse, Message: strings.Join(refused, "; ")}
	case len(waiting) > 0:
		return Decision{Action: Wait, Message: strings.Join(waiting, "; ")}
	default:
		return Decision{Action: Release, Warnings: warnings, Policies: attestation.GatePolicies(records)}
	}
}

// judge returns what follows from one record. A text with Release is a warning.
func judge(record attestation.Record, settings config.Gate) (Action, string) {
	switch {
	case record.Result == policy.Passed, record.Reason == policy.PolicySkip:
		return Release, ""
	case record.Reason == policy.NoPolicy && settings.Unmatched == config.GateAllow,
		record.Reason == policy.Inline && settings.Inline == config.GateAllow:
		return Release, ""
	case record.Result == policy.Failed && record.Mode == policy.Warn:
		return Release, describe(record, record.Outcome)
	}
	deciding, temporary := decidingOutcome(record)
	if temporary {
		return Wait, describe(record, deciding)
	}
	return Refuse, describe(record, deciding) + ": " + remedy(deciding.Reason)
}

// decidingOutcome returns the outcome because of which a record did not pass: the
// first that no later answer can change, or else the one that the verdict names.
func decidingOutcome(record attestation.Record) (deciding policy.Outcome, temporary bool) {
	for _, outcome := range record.Policies {
		if outcome.Result != policy.Passed && outcome.Mode != policy.Warn && outcome.Reason != policy.KeyUnavailable {
			return outcome, false
		}
	}
	return record.Outcome, record.Reason == policy.KeyUnavailable || record.Unavailable.Temporary || notListed(record)
}

// notListed reports that the policies could not be read: no policy gave the verdict.
func notListed(record attestation.Record) bool {
	return record.Reason == policy.PolicyInvalid && record.Result == policy.Skipped
}

// executing are the overrides that change what the containers of a run execute.
func executing(overrides []string) (found []string) {
	for _, path := range overrides {
		switch path {
		case "podTemplate.env", "podTemplate.volumes", "podTemplate.runtimeClassName", "podTemplate.hostNetwork":
			found = append(found, path)
		}
	}
	return found
}
