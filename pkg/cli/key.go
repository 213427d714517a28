// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/client"
)

func newKey() *cobra.Command {
	command := &cobra.Command{
		Use:   "key",
		Short: "Generate, rotate and revoke the keys that sign resources",
		Long: `Generate, rotate and revoke the keys that sign resources.

The commands change the spec of a KeyRing, and show its status. The controller does
the work, so each command can be interrupted and repeated.

The exit code is
  0  if the command succeeded,
  1  if something blocks what the command waits for, or a KeyRing cannot sign,
  2  if the command was used in a wrong way, was refused, or failed.`,
	}
	access := &keyAccess{}
	flags := command.PersistentFlags()
	flags.StringVar(&access.Kubeconfig, "kubeconfig", "", "kubeconfig of the cluster (default: that of kubectl)")
	flags.StringVar(&access.Context, "context", "", "context in the kubeconfig (default: the current one)")
	flags.StringVarP(&access.namespace, "namespace", "n", "tekton-chains", "namespace of the controller, which has the KeyRings")
	command.AddCommand(
		newKeyGenerate(access), newKeyStatus(access), newKeyRotate(access), newKeyRollback(access),
		newKeyRevoke(access), newKeyRetire(access), newKeyExport(access),
	)
	return command
}

// ringReader reads KeyRings.
type ringReader interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (*v1alpha1.KeyRing, error)
	List(ctx context.Context, o metav1.ListOptions) (*v1alpha1.KeyRingList, error)
}

// ringWriter writes the specs of KeyRings.
type ringWriter interface {
	Create(ctx context.Context, ring *v1alpha1.KeyRing, o metav1.CreateOptions) (*v1alpha1.KeyRing, error)
	Update(ctx context.Context, ring *v1alpha1.KeyRing, o metav1.UpdateOptions) (*v1alpha1.KeyRing, error)
}

// secretStore has the Secrets with private keys.
type secretStore interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (*corev1.Secret, error)
	Create(ctx context.Context, secret *corev1.Secret, o metav1.CreateOptions) (*corev1.Secret, error)
	Delete(ctx context.Context, name string, o metav1.DeleteOptions) error
}

// keyAccess holds the flags of all subcommands of key.
type keyAccess struct {
	client.Connection

	namespace string
}

// keyTool is what one subcommand of key works with.
type keyTool struct {
	reader    ringReader
	writer    ringWriter
	secrets   secretStore
	namespace string
	format    *output
	stdout    io.Writer
	progress  io.Writer
}

// connect returns the tool of a subcommand. What the command says to people goes to
// stderr if its output is for programs.
func (a *keyAccess) connect(cmd *cobra.Command, format *output) (*keyTool, error) {
	config, err := a.Config()
	if err != nil {
		return nil, err
	}
	rings, err := client.NewKeyRings(config, a.namespace)
	if err != nil {
		return nil, err
	}
	secrets, err := client.NewSecrets(config, a.namespace)
	if err != nil {
		return nil, err
	}
	t := &keyTool{
		reader: rings, writer: rings, secrets: secrets, namespace: a.namespace,
		format: format, stdout: cmd.OutOrStdout(), progress: cmd.OutOrStdout(),
	}
	if !format.isText() {
		t.progress = cmd.ErrOrStderr()
	}
	return t, nil
}

// say prints a line for people.
func (t *keyTool) say(format string, args ...any) { fmt.Fprintf(t.progress, format+"\n", args...) }

// show prints the KeyRing if the output is for programs.
func (t *keyTool) show(ring *v1alpha1.KeyRing) error {
	return t.format.write(t.stdout, withKind(ring), func(io.Writer) error { return nil })
}

// withKind returns the KeyRing as kubectl prints it. Clients leave out the kind.
func withKind(ring *v1alpha1.KeyRing) *v1alpha1.KeyRing {
	ring = ring.DeepCopy()
	ring.APIVersion, ring.Kind, ring.ManagedFields = v1alpha1.SchemeGroupVersion.String(), "KeyRing", nil
	return ring
}

// addRing adds the flag --ring to a command.
func addRing(command *cobra.Command, ring *string) {
	command.Flags().StringVar(ring, "ring", v1alpha1.DefaultKeyRing, "name of the KeyRing")
}

// addDryRun adds the flag --dry-run to a command.
func addDryRun(command *cobra.Command, dryRun *bool) {
	command.Flags().BoolVar(dryRun, "dry-run", false, "let the API server check the change, and do not store it")
}

// dryRunNote ends what a command says about a change.
func dryRunNote(dryRun bool) string {
	if dryRun {
		return " (dry run: nothing has changed)"
	}
	return ""
}

// dryRunOf returns the value for options of a request.
func dryRunOf(dryRun bool) []string {
	if dryRun {
		return []string{metav1.DryRunAll}
	}
	return nil
}
