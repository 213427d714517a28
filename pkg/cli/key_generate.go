// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/pkg/keys"
)

func newKeyGenerate(access *keyAccess) *cobra.Command {
	var g generation
	var format output
	command := &cobra.Command{
		Use:   "generate",
		Short: "Make a new key, and add it to a KeyRing",
		Long: `Make a new key, and add it to a KeyRing.

The key is an ECDSA key with the curve P-256. Its private half goes into a new,
immutable Secret with the name key-RING-NAME in the format of cosign, and nowhere
else. The public half also goes into the KeyRing. With --kms, the private half is in
a KMS already, and no Secret is made.

The key is a standby: the controller publishes it, and policies can trust it, but it
does not sign before "tkn-trust key rotate". With --activate, it becomes the target
of a rotation at once.

If there is no KeyRing "default" yet, the command creates it. Its first key is that of
the Secret signing-secrets, so that the same key signs as before.

If the command fails after it made the Secret, repeat the command with the same --name.`,
		Example: `  tkn-trust key generate --name 2027
  tkn-trust key generate --name 2027 --kms hashivault://tekton --version 2

  # in a CronJob: a new key if spec.rotation.rotateAfter has passed, and none waits already
  tkn-trust key generate --if-due

  # a first key of its own for the namespaces with a label
  tkn-trust key generate --ring prod --namespace-selector stage=prod --activate`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			tool, err := access.connect(cmd, &format)
			if err != nil {
				return err
			}
			g.keyTool = tool
			return g.run(cmd.Context())
		},
	}
	addRing(command, &g.ring)
	addDryRun(command, &g.dryRun)
	flags := command.Flags()
	flags.StringVar(&g.name, "name", time.Now().UTC().Format(time.DateOnly), "name of the key in the KeyRing; the default is the date")
	flags.BoolVar(&g.activate, "activate", false, "make the key the target of a rotation, instead of a standby")
	flags.StringVar(&g.kms.Ref, "kms", "", "reference of the key in a KMS, such as hashivault://KEY")
	flags.StringVar(&g.kms.Version, "version", "", "version of the key in HashiCorp Vault")
	flags.BoolVar(&g.ifDue, "if-due", false, "do nothing unless the condition RotationDue of the KeyRing is true")
	flags.StringVar(&g.selector, "namespace-selector", "", "labels of the namespaces that a new KeyRing serves; required for other KeyRings than default")
	format.add(command, "text", "json", "yaml")
	return command
}

// generation is one call of tkn-trust key generate.
type generation struct {
	*keyTool

	ring, name, selector    string
	kms                     v1alpha1.KMSKey
	activate, ifDue, dryRun bool
}

func (g *generation) run(ctx context.Context) error {
	if g.kms.Ref != "" {
		if err := keys.ValidateKMS(g.kms.Ref, g.kms.Version); err != nil {
			return fmt.Errorf("--kms: %w", err)
		}
	}
	ring, err := g.get(ctx, g.ring)
	isNew := errors.Is(err, errNoKeyRing) && !g.ifDue
	switch {
	case g.kms.Version != "" && g.kms.Ref == "":
		return errors.New("--version is that of a key in a KMS; give --kms, too")
	case isNew:
		if ring, err = g.newRing(ctx); err != nil {
			return err
		}
	case err != nil:
		return err
	case g.selector != "":
		return fmt.Errorf("KeyRing %s exists; change its namespaceSelector with kubectl edit", g.ring)
	case g.ifDue:
		if why := notDue(ring); why != "" {
			g.say("Nothing to do: %s", why)
			return g.show(ring)
		}
	}
	if key := keyring.SpecOf(ring, g.name); key != nil && !isNew {
		return g.existing(ring)
	}
	return g.add(ctx, ring, isNew)
}

// notDue returns why no key has to be generated. It is empty if one has to be.
func notDue(ring *v1alpha1.KeyRing) string {
	due := meta.FindStatusCondition(ring.Status.Conditions, v1alpha1.KeyRingRotationDue)
	if due == nil || due.Status != "True" {
		return fmt.Sprintf("no rotation of KeyRing %s is due", ring.Name)
	}
	for _, key := range ring.Spec.Keys {
		status := keyring.StatusOf(&ring.Status, key.Name)
		waits := status == nil || status.State == v1alpha1.KeyPending
		if waits && key.Revoked == nil && (key.X509 != nil || key.KMS != nil) {
			return fmt.Sprintf("a rotation of KeyRing %s is due, and key %q waits for tkn-trust key rotate --to %s", ring.Name, key.Name, key.Name)
		}
	}
	return ""
}

// existing ends a repetition of the command.
func (g *generation) existing(ring *v1alpha1.KeyRing) error {
	if err := keyring.Append(ring.DeepCopy(), g.entry("")); err != nil {
		return err
	}
	g.say("KeyRing %s has key %q already", g.ring, g.name)
	return g.show(ring)
}

// entry returns the entry of the new key in the spec of its KeyRing.
func (g *generation) entry(publicKey string) v1alpha1.RingKey {
	key := v1alpha1.RingKey{Name: g.name, PublicKey: publicKey, Standby: !g.activate}
	if g.kms.Ref != "" {
		key.KMS = &g.kms
	} else {
		key.X509 = &v1alpha1.X509Key{Secret: secretName(g.ring, g.name)}
	}
	return key
}

// add adds the key to a KeyRing. Before it makes the private half, the API server checks
// that the KeyRing can have it.
func (g *generation) add(ctx context.Context, ring *v1alpha1.KeyRing, isNew bool) error {
	checked, err := g.write(ctx, ring, g.entry(""), isNew, true)
	if err != nil {
		return err
	}
	var public string
	if g.kms.Ref == "" {
		made, err := g.makeSecret(ctx)
		if err != nil {
			return err
		}
		public = made
	}
	if !g.dryRun {
		checked, err = g.write(ctx, ring, g.entry(public), isNew, false)
		if err != nil && g.kms.Ref == "" {
			return g.halfDone(err)
		}
		if err != nil {
			return err
		}
	}
	g.report(isNew)
	return g.show(checked)
}

// write adds an entry to the KeyRing, or creates the KeyRing with it.
func (g *generation) write(ctx context.Context, ring *v1alpha1.KeyRing, key v1alpha1.RingKey, isNew, dryRun bool) (*v1alpha1.KeyRing, error) {
	if isNew {
		ring = ring.DeepCopy()
		if err := keyring.Append(ring, key); err != nil {
			return nil, err
		}
		return g.create(ctx, ring, dryRun)
	}
	stored, _, err := g.change(ctx, g.ring, dryRun, func(ring *v1alpha1.KeyRing) error {
		if err := keyring.Append(ring, key); err != nil || !g.activate {
			return err
		}
		return keyring.Aim(ring, key.Name)
	})
	return stored, err
}

// halfDone says what is left of a command that made a Secret, and how to go on.
func (g *generation) halfDone(err error) error {
	secret := secretName(g.ring, g.name)
	return fmt.Errorf("%w; Secret %s/%s has the new key, and KeyRing %s does not name it yet. Go on: repeat the command with --name %s. "+
		"Or remove what is left: kubectl --namespace %s delete secret %s", err, g.namespace, secret, g.ring, g.name, g.namespace, secret)
}

func (g *generation) report(isNew bool) {
	note := dryRunNote(g.dryRun)
	if isNew {
		g.say("KeyRing %s is created%s", g.ring, note)
	}
	if g.activate {
		g.say("Key %q is the target of KeyRing %s%s. See what blocks it: tkn-trust key status", g.name, g.ring, note)
		return
	}
	g.say("Key %q is a standby in KeyRing %s%s. Make it sign: tkn-trust key rotate --ring %s --to %s --wait", g.name, g.ring, note, g.ring, g.name)
}
