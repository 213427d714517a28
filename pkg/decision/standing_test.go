// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"fmt"
	"testing"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

func TestStanding(t *testing.T) {
	signed := &resource.Summary{}
	unsigned := &resource.Summary{SignatureError: resource.ErrUnsigned}
	malformed := &resource.Summary{SignatureError: fmt.Errorf("%w: not base64", resource.ErrMalformedSignature)}
	for _, tc := range []struct {
		reason          Reason
		resource        *resource.Summary
		standing        Standing
		waits, selected bool
	}{
		{SignerNone, unsigned, "", false, false},
		{Deleting, unsigned, "", false, false},
		{NamespaceNotSelected, signed, "", false, false},
		{SignedByActiveKey, signed, StandingSigned, false, true},
		{SignedByAuthority, signed, StandingForeign, false, true},
		{KeyRotated, signed, StandingRetiredKey, true, true},
		{Unsigned, unsigned, StandingUnsigned, true, true},
		{NoKey, unsigned, StandingUnsigned, true, true},
		{NoKey, signed, StandingUndecided, true, true},
		{NoKey, malformed, StandingInvalid, true, true},
		{TektonTooOld, signed, StandingUndecided, true, true},
		{Undecided, signed, StandingUndecided, true, true},
		{ContentChanged, signed, StandingInvalid, true, true},
		{TektonChanged, signed, StandingInvalid, true, true},
		{KeyRevoked, signed, StandingInvalid, false, true},
		{SignedForOtherTekton, signed, StandingInvalid, false, true},
		{NotAuthorized, unsigned, StandingUnsigned, false, true},
		{NotAuthorized, signed, StandingUndecided, false, true},
		{RequesterUnsafe, unsigned, StandingUnsigned, true, true},
	} {
		standing, waits, selected := Decision{Reason: tc.reason}.Standing(tc.resource)
		if standing != tc.standing || waits != tc.waits || selected != tc.selected {
			t.Errorf("%s of a resource with %v: got %q, %v, %v, want %q, %v, %v", tc.reason, tc.resource.SignatureError,
				standing, waits, selected, tc.standing, tc.waits, tc.selected)
		}
	}
}
