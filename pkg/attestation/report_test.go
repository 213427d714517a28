// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"testing"

	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

func TestReport_UnavailableContentDoesNotPass(t *testing.T) {
	for reason, want := range map[policy.Reason]policy.Result{
		policy.ContentUnavailable:   policy.Skipped,
		policy.SignatureUnavailable: policy.Skipped,
		policy.Inline:               policy.Skipped,
		policy.DigestMismatch:       policy.Failed,
		policy.NamespaceMismatch:    policy.Failed,
	} {
		report := reported(t, verdicts{"": outcome(policy.Passed, "")}, nil, dependency(dependencies.Task, "a", without(reason)))
		if got := report.Records[0]; got.Result != want || got.Reason != reason || got.KeyID != "" || report.Result() != want {
			t.Errorf("%s: got %s %q, want %s", reason, got.Result, got.Reason, want)
		}
	}
}
