// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
)

func newKeyRotate(access *keyAccess) *cobra.Command {
	var ring, to string
	var accept []string
	var dryRun bool
	var waiting rotationWait
	var format output
	command := &cobra.Command{
		Use:   "rotate --to NAME",
		Short: "Make a key the one that signs",
		Long: `Make a key the one that signs.

The controller makes the key active when each VerificationPolicy that trusts the older
key also trusts this one, and Tekton has seen that. When nothing needs the older key
any more, the controller retires the key. No run fails because of that.

With --wait, the command prints what happens, until all of that is done. With
--wait=active, it ends when the key signs. The command can be interrupted and repeated:
the controller does the work.`,
		Example: `  tkn-trust key rotate --to 2027 --wait
  tkn-trust key rotate --to 2027 --wait=active --timeout 10m

  # although this policy does not trust the key
  tkn-trust key rotate --to 2027 --accept-unready legacy/old`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			unready, err := parsePolicies(accept)
			if err != nil {
				return err
			}
			if err := waiting.check(dryRun); err != nil {
				return err
			}
			tool, err := access.connect(cmd, &format)
			if err != nil {
				return err
			}
			found, changed, err := tool.change(cmd.Context(), ring, dryRun, func(ring *v1alpha1.KeyRing) error {
				acceptUnready(ring, unready)
				return keyring.Aim(ring, to)
			})
			if err != nil {
				return err
			}
			tool.sayTarget(found, changed, dryRun)
			return waiting.run(cmd.Context(), tool, found, to)
		},
	}
	addRing(command, &ring)
	addDryRun(command, &dryRun)
	waiting.add(command)
	flags := command.Flags()
	flags.StringVar(&to, "to", "", "name of the key (required)")
	flags.StringSliceVar(&accept, "accept-unready", nil, "VerificationPolicies (NAMESPACE/NAME) that need not trust the key; runs under them may fail")
	_ = command.MarkFlagRequired("to")
	format.add(command, "text", "json", "yaml")
	return command
}

func (t *keyTool) sayTarget(ring *v1alpha1.KeyRing, changed, dryRun bool) {
	already := " already"
	if changed {
		already = ""
	}
	t.say("Key %q is the target of KeyRing %s%s%s", keyring.Target(ring), ring.Name, already, dryRunNote(dryRun))
}

// parsePolicies parses the flag --accept-unready.
func parsePolicies(values []string) ([]v1alpha1.PolicyReference, error) {
	policies := make([]v1alpha1.PolicyReference, 0, len(values))
	for _, value := range values {
		namespace, name, found := strings.Cut(value, "/")
		if !found || namespace == "" || name == "" || strings.Contains(name, "/") {
			return nil, fmt.Errorf("--accept-unready %q: expected NAMESPACE/NAME of a VerificationPolicy", value)
		}
		policies = append(policies, v1alpha1.PolicyReference{Namespace: namespace, Policy: name})
	}
	return policies, nil
}

func acceptUnready(ring *v1alpha1.KeyRing, policies []v1alpha1.PolicyReference) {
	for _, p := range policies {
		if accepted := &ring.Spec.Rotation.AcceptUnready; !slices.Contains(*accepted, p) {
			*accepted = append(*accepted, p)
		}
	}
}
