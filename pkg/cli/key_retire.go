// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
)

func newKeyRetire(access *keyAccess) *cobra.Command {
	var r retiring
	var format output
	command := &cobra.Command{
		Use:   "retire NAME",
		Short: "Forget the private half of a retired or revoked key",
		Long: `Forget the private half of a retired or revoked key.

The KeyRing keeps the public half, so that signatures of the key are recognized for
ever. The command says which Secret nobody needs any more, and deletes the Secret with
--delete-secret. It never deletes a key in a KMS.`,
		Example: `  tkn-trust key retire 2026
  tkn-trust key retire 2026 --delete-secret`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			tool, err := access.connect(cmd, &format)
			if err != nil {
				return err
			}
			r.keyTool, r.name = tool, args[0]
			return r.run(cmd.Context())
		},
	}
	addRing(command, &r.ring)
	addDryRun(command, &r.dryRun)
	command.Flags().BoolVar(&r.deleteSecret, "delete-secret", false, "delete the Secret with the private half")
	format.add(command, "text", "json", "yaml")
	return command
}

// retiring is one call of tkn-trust key retire.
type retiring struct {
	*keyTool

	ring, name           string
	deleteSecret, dryRun bool
}

func (r *retiring) run(ctx context.Context) error {
	var secret string
	found, changed, err := r.change(ctx, r.ring, r.dryRun, func(ring *v1alpha1.KeyRing) (err error) {
		secret, err = keyring.Forget(ring, r.name)
		return err
	})
	if err != nil {
		return err
	}
	already := " already"
	if changed {
		already = ""
	}
	r.say("KeyRing %s has only the public half of key %q%s%s", r.ring, r.name, already, dryRunNote(r.dryRun))
	if err := r.clean(ctx, secret); err != nil {
		return err
	}
	return r.show(found)
}

// clean deletes the Secret of the private half, or says that it can be deleted. secret is
// empty if the KeyRing named none any more: an earlier call may not have deleted it.
func (r *retiring) clean(ctx context.Context, secret string) error {
	if secret == "" && !r.deleteSecret {
		return nil
	}
	var own *metav1.Preconditions // the Secret that was looked at, and no later one
	if secret == "" {
		made, err := r.ownSecret(ctx)
		if made == nil || err != nil {
			return err
		}
		secret, own = made.Name, &metav1.Preconditions{UID: &made.UID}
	}
	where := fmt.Sprintf("Secret %s/%s", r.namespace, secret)
	if why, err := r.needed(ctx, secret); why != "" || err != nil {
		r.say("%s stays: %s", where, why)
		return err
	}
	remove := fmt.Sprintf("kubectl --namespace %s delete secret %s", r.namespace, secret)
	if !r.deleteSecret {
		r.say("Nobody needs %s any more. Delete it: %s", where, remove)
		return nil
	}
	err := r.secrets.Delete(ctx, secret, metav1.DeleteOptions{Preconditions: own, DryRun: dryRunOf(r.dryRun)})
	switch {
	case apierrors.IsNotFound(err):
		r.say("%s does not exist any more", where)
		return nil
	case err != nil:
		return fmt.Errorf("%w; the KeyRing does not name %s any more, and the Secret is left. Delete it: %s", r.explain(err, "delete", "secrets"), where, remove)
	}
	r.say("%s is deleted%s", where, dryRunNote(r.dryRun))
	return nil
}

// ownSecret returns the Secret that tkn-trust key generate made for the key. It is nil if
// there is none.
func (r *retiring) ownSecret(ctx context.Context) (*metav1.ObjectMeta, error) {
	found, err := r.secrets.Get(ctx, secretName(r.ring, r.name), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, r.explain(err, "get", "secrets")
	case found.Annotations[v1alpha1.KeyAnnotation] != keyOf(r.ring, r.name):
		return nil, nil
	}
	return &found.ObjectMeta, nil
}

// needed returns who else needs a Secret. It is empty if nobody does.
func (r *retiring) needed(ctx context.Context, secret string) (string, error) {
	if secret == signingSecret {
		return "its key also signs Chains' attestations", nil
	}
	rings, err := r.list(ctx)
	if err != nil {
		return "", err
	}
	for _, ring := range rings {
		for _, key := range ring.Spec.Keys {
			if isSelf := ring.Name == r.ring && key.Name == r.name; !isSelf && key.X509 != nil && key.X509.Secret == secret {
				return fmt.Sprintf("key %q of KeyRing %s uses it, too", key.Name, ring.Name), nil
			}
		}
	}
	return "", nil
}
