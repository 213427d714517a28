// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/pkg/store/oci"
)

// pin is a digest that somebody may have pinned, and the one to pin instead.
type pin struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Checksum  string `json:"checksum"`
	Old       string `json:"old"`
	New       string `json:"new"`
	// OldSigner is the ID of the trusted key that signed the resource in the old bundle;
	// empty if none did. NewSigner is that of the new one.
	OldSigner string `json:"oldSigner"`
	NewSigner string `json:"newSigner"`
}

func newPins(access *registryAccess) *cobra.Command {
	var keys []string
	var prefix, namespace string
	var format output
	command := &cobra.Command{
		Use:   "pins",
		Short: "List the bundles that were signed again, with the digests to pin instead",
		Long: `List the bundles that the controller signed again with another key, with the digests
to pin instead. The content of the resource is the same.

The registry keeps the old bundles. Tekton verifies the signature in the bundle, which
is that of the old key. Users who pin an old digest have to pin the new one before the
old key is retired.

A bundle is listed if the keys signed the new one. The exit code is 1 if they did not
sign some.`,
		Example: `  tkn-trust bundle pins -n prod --repository registry.example/tekton --key old.pub --key new.pub`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			trusted, err := readKeys(keys)
			if err != nil {
				return err
			}
			store := &oci.Store{Registry: access.client(), Prefix: prefix}
			found, err := store.Pins(cmd.Context(), namespace, trusted)
			if err != nil {
				return err
			}
			pins, problems := pinsOf(found)
			err = format.write(cmd.OutOrStdout(), pins, func(w io.Writer) error { return writePins(w, pins) })
			return errors.Join(err, problems)
		},
	}
	addKeys(command, &keys)
	flags := command.Flags()
	flags.StringVar(&prefix, "repository", "", "value of trustedresources.oci.repository in chains-config (required)")
	flags.StringVarP(&namespace, "namespace", "n", "default", "namespace of the resources")
	_ = command.MarkFlagRequired("repository")
	format.add(command, "table", "json", "yaml")
	return command
}

// pinsOf returns the pins that can be relied upon, and what is wrong with the others.
func pinsOf(found []oci.Pin) (pins []pin, problems error) {
	pins = []pin{}
	var errs []error
	for _, p := range found {
		if p.Err != nil {
			errs = append(errs, fmt.Errorf("tag %s: %w: %w", p.Tag, errFindings, p.Err))
			continue
		}
		present := p.Present.Resources[0]
		id, checksum := oci.IDOf(present.Object), present.Checksum()
		pins = append(pins, pin{
			Kind: string(id.Kind), Namespace: id.Namespace, Name: id.Name, Checksum: hex.EncodeToString(checksum),
			Old: p.Earlier.Reference, New: p.Present.Reference,
			OldSigner: p.Earlier.Resource(id, checksum).Signer, NewSigner: present.Signer,
		})
	}
	return pins, errors.Join(errs...)
}

func writePins(w io.Writer, pins []pin) error {
	const padding = 2
	t := tabwriter.NewWriter(w, 0, 0, padding, ' ', 0)
	fmt.Fprintln(t, "KIND\tNAME\tOLD\tSIGNED WITH\tNEW")
	for _, p := range pins {
		_, digest, _ := strings.Cut(p.New, "@")
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", p.Kind, p.Name, p.Old, orNone(p.OldSigner), digest)
	}
	return t.Flush()
}
