// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"strings"

	"github.com/trusted-resources/chains-extension/pkg/attestation"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// describe names the resource, the reason, and the policy. Messages of policies can
// name Secrets and KMS, and the author of a run may not know about these. So only
// messages about the content are repeated.
func describe(record attestation.Record, outcome policy.Outcome) string {
	text := fmt.Sprintf("%s %s/%s: %s", record.Kind, record.Namespace, record.Name, outcome.Reason)
	if record.Source.URI != "" {
		text += fmt.Sprintf(" (from %.300s)", record.Source.URI)
	}
	switch {
	case outcome.Rank != nil:
		text += fmt.Sprintf(" by ClusterVerificationPolicy %s (tier %s, priority %d, mode %s)",
			outcome.Policy, outcome.Rank.Tier, outcome.Rank.Priority, outcome.Mode)
	case outcome.Policy != "":
		text += fmt.Sprintf(" by policy %s (mode %s)", outcome.Policy, outcome.Mode)
	}
	if message := record.Unavailable.Message; message != "" {
		text += fmt.Sprintf(", %.300s", message)
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// remedies say what to do. Every reason has one, see TestRemedies_AreComplete.
var remedies = map[policy.Reason]string{
	policy.NoPolicy: "no policy of the namespace matches this source; create a VerificationPolicy for it, " +
		"or set trustedresources.gate.unmatched to allow",
	policy.Unsigned:           "sign the resource, and start the run again",
	policy.SignatureInvalid:   "the content was changed after it was signed, or the policy does not trust the signer; sign it again, or add the key to the policy",
	policy.KeyUnknown:         "add the key of this installation to the policy",
	policy.KeyRevoked:         "sign the resource with a key that is not revoked",
	policy.KeyNotAllowed:      "ask the administrator to allow the key that the policy names",
	policy.PolicyInvalid:      "correct the policy",
	policy.DigestMismatch:     "start the run again; if that does not help, somebody changes the resource while it is resolved",
	policy.ReferenceMismatch:  "a TaskRun took the place of a task of the Pipeline; find out who created it, and start the PipelineRun again",
	policy.NamespaceMismatch:  "sign the resource in the namespace that its source names",
	policy.ContentUnavailable: "what the run executes cannot be proven any more; start the run again",
	policy.Inline:             "refer to a signed resource, or set trustedresources.gate.inline to allow",
	// This one releases.
	policy.PolicySkip: "change the policy in mode skip if the resource has to be verified",
	// These two wait, unless another policy has refused the resource.
	policy.KeyUnavailable:       "wait until the key of the policy can be read",
	policy.SignatureUnavailable: "wait until the registry answers",
}

func remedy(reason policy.Reason) string { return remedies[reason] }
