// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
)

func newKeyRevoke(access *keyAccess) *cobra.Command {
	var r revoking
	var format output
	command := &cobra.Command{
		Use:   "revoke NAME",
		Short: "End all trust in a key, for ever",
		Long: `End all trust in a key, for ever. Use it when a private key may be stolen.

The controller stops to sign with the key, takes the key out of VerificationPolicies
with injected keys, and waits until Tekton has seen that. Then it signs the resources
again with the next key. With --hold, resources with a signature of the key stay as they
are, because a thief may have changed them.

If the key signs now, the newest other key that can sign becomes the target, also if it
is a standby. VerificationPolicies without injected keys have to be changed by hand.

The command asks before it revokes a key. To repeat the command changes what the given
flags say, and nothing else.`,
		Example: `  tkn-trust key revoke 2026 --reason KeyCompromise --since 2027-03-01T12:00:00Z --hold --wait`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			tool, err := access.connect(cmd, &format)
			if err != nil {
				return err
			}
			r.keyTool, r.name, r.in, r.isGiven = tool, args[0], cmd.InOrStdin(), cmd.Flags().Changed
			return r.run(cmd.Context())
		},
	}
	addRing(command, &r.ring)
	addDryRun(command, &r.dryRun)
	addTimeout(command, &r.timeout)
	flags := command.Flags()
	flags.StringVar(&r.reason, "reason", "", "KeyCompromise, Superseded, CessationOfOperation or Unspecified (required)")
	flags.StringVar(&r.since, "since", "", "time from which signatures may be those of a thief, such as 2027-03-01T12:00:00Z")
	flags.BoolVar(&r.hold, "hold", false, "do not sign resources with a signature of the key again")
	flags.BoolVar(&r.wait, "wait", false, "print what happens until nobody trusts the key any more")
	flags.BoolVar(&r.yes, "yes", false, "do not ask, and also revoke the last key that can sign")
	format.add(command, "text", "json", "yaml")
	return command
}

// revoking is one call of tkn-trust key revoke.
type revoking struct {
	*keyTool

	ring, name, reason, since string
	hold, wait, yes, dryRun   bool
	timeout                   time.Duration
	in                        io.Reader
	isGiven                   func(flag string) bool
}

func (r *revoking) run(ctx context.Context) error {
	ring, err := r.get(ctx, r.ring)
	if err != nil {
		return err
	}
	next := ring.DeepCopy()
	if err := r.edit(next); err != nil {
		return err
	}
	if err := r.agree(ring, next); err != nil {
		return err
	}
	found, changed, err := r.change(ctx, r.ring, r.dryRun, r.edit)
	if err != nil {
		return err
	}
	already := " already"
	if changed {
		already = ""
	}
	r.say("Key %q of KeyRing %s is revoked%s (%s)%s", r.name, r.ring, already, keyring.SpecOf(found, r.name).Revoked.Reason, dryRunNote(r.dryRun))
	if !r.wait || r.dryRun {
		return r.show(found)
	}
	return r.watch(ctx, found, r.timeout, func(ring *v1alpha1.KeyRing) ([]step, error) { return revocationSteps(ring, r.name), nil })
}

// edit revokes the key in the spec of a KeyRing.
func (r *revoking) edit(ring *v1alpha1.KeyRing) error {
	if !r.yes && !isRevoked(ring, r.name) && keyring.IsInUse(ring, r.name) && keyring.Successor(ring, r.name) == "" {
		return fmt.Errorf("KeyRing %s has no other key that can sign, so nothing would be signed without key %q: "+
			"generate another key first, or repeat the command with --yes", ring.Name, r.name)
	}
	var since *metav1.Time
	if r.since != "" {
		parsed, err := time.Parse(time.RFC3339, r.since)
		if err != nil {
			return fmt.Errorf("--since %q: expected a time such as 2027-03-01T12:00:00Z: %w", r.since, err)
		}
		since = &metav1.Time{Time: parsed.UTC()}
	}
	if r.reason == "" && !isRevoked(ring, r.name) {
		return fmt.Errorf("--reason is missing; expected one of %v", reasons)
	}
	if r.reason != "" && !slices.Contains(reasons, v1alpha1.RevocationReason(r.reason)) {
		return fmt.Errorf("--reason %q: expected one of %v", r.reason, reasons)
	}
	return keyring.Revoke(ring, r.name, func(revocation *v1alpha1.Revocation) {
		if r.reason != "" {
			revocation.Reason = v1alpha1.RevocationReason(r.reason)
		}
		if since != nil {
			revocation.Since = since
		}
		if r.isGiven("hold") {
			revocation.Hold = r.hold
		}
	})
}

var reasons = []v1alpha1.RevocationReason{
	v1alpha1.RevokedKeyCompromise, v1alpha1.RevokedSuperseded, v1alpha1.RevokedCessationOfOperation, v1alpha1.RevokedUnspecified,
}

func isRevoked(ring *v1alpha1.KeyRing, name string) bool {
	key := keyring.SpecOf(ring, name)
	return key != nil && key.Revoked != nil
}

// agree says what the revocation does, and asks whether it may.
func (r *revoking) agree(before, after *v1alpha1.KeyRing) error {
	if isRevoked(before, r.name) {
		return nil
	}
	for _, line := range consequences(before, after, r.name) {
		r.say("%s", line)
	}
	if r.yes || r.dryRun {
		return nil
	}
	return confirm(r.in, r.progress, r.name)
}

// revocationSteps returns the steps of a revocation.
func revocationSteps(ring *v1alpha1.KeyRing, name string) []step {
	key := keyring.StatusOf(&ring.Status, name)
	r := rotation{ring: ring, status: &ring.Status}
	if !r.isObserved() || key == nil {
		return []step{notRead}
	}
	revoked := step{name: "Revoked", done: key.State == v1alpha1.KeyRevoked, text: fmt.Sprintf("%s %s: signs nothing", name, shortID(key.KeyID))}
	untrusted := step{name: "Untrusted", text: r.message()}
	switch {
	case key.KeyID == "":
		untrusted.done, untrusted.text = true, "the public half was never known, so no policy has it"
	case key.UntrustedSince != nil:
		untrusted.done, untrusted.text = true, "no policy with injected keys trusts it since "+key.UntrustedSince.UTC().Format(time.RFC3339)
	}
	steps := []step{revoked, untrusted}
	r.to = keyring.StatusOf(&ring.Status, keyring.Target(ring))
	if r.to == nil {
		return steps
	}
	steps = append(steps, r.active())
	if spec := keyring.SpecOf(ring, name); spec == nil || spec.Revoked == nil || !spec.Revoked.Hold {
		steps = append(steps, step{
			name: "Signed", done: key.Signed == 0, count: -key.Signed,
			text: fmt.Sprintf("%d resources have a signature of key %s", key.Signed, name),
		})
	}
	return steps
}
