// SPDX-License-Identifier: Apache-2.0

package attestation

import "time"

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
}

// severity orders the decisions about the TaskRuns of a PipelineRun: the first one that
// one of them has is the decision about the PipelineRun.
var severity = []GateDecision{GateRefused, GateUnknown, GateNotHeld, GateOpened, GateReleased}

// GateOf returns the decision about a run with TaskRuns.
func GateOf(taskRuns []Gate) Gate {
	for _, decision := range severity {
		var last Gate
		for _, g := range taskRuns {
			if g.Decision == decision && !g.At.Before(last.At) {
				last = g
			}
		}
		if last.Decision != "" {
			return last
		}
	}
	return Gate{Decision: GateNotHeld}
}

func (g Gate) values() map[string]any {
	values := map[string]any{"decision": string(g.Decision)}
	if !g.At.IsZero() {
		values["decidedAt"] = timestamp(g.At)
	}
	return values
}
