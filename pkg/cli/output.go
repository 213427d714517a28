// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/trusted-resources/chains-extension/pkg/store/oci"
)

// output is the flag --output (-o).
type output struct {
	format  string
	allowed []string
}

// add adds the flag to a command. The first allowed format is the default.
func (o *output) add(command *cobra.Command, allowed ...string) {
	o.allowed = allowed
	command.Flags().StringVarP(&o.format, "output", "o", allowed[0], "one of "+strings.Join(allowed, ", "))
	command.PreRunE = func(*cobra.Command, []string) error {
		if !slices.Contains(o.allowed, o.format) {
			return fmt.Errorf("--output %q: expected one of %s", o.format, strings.Join(o.allowed, ", "))
		}
		return nil
	}
}

// isText reports that the output is for people.
func (o *output) isText() bool { return o.format != "json" && o.format != "yaml" }

// write prints a value in the selected format. It calls table for the format
// "table".
func (o *output) write(w io.Writer, value any, table func(io.Writer) error) error {
	switch o.format {
	case "json":
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(value)
	case "yaml":
		content, err := yaml.Marshal(value)
		if err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	default:
		return table(w)
	}
}

// verification is the output of tkn-trust bundle verify.
type verification struct {
	Reference string `json:"reference"`
	// Verified is true if trusted keys signed the bundle and all its resources, and
	// all resources belong to the namespace that was asked for.
	Verified bool `json:"verified"`
	// Signers are the IDs of the trusted keys that signed the bundle.
	Signers []string `json:"signers"`
	// Unverified holds one reason for each signature of the bundle that does not
	// count.
	Unverified []string           `json:"unverified,omitempty"`
	Resources  []verifiedResource `json:"resources"`
}

type verifiedResource struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Checksum  string `json:"checksum"`
	// Signer is the ID of the trusted key that signed the resource; empty if no
	// trusted key signed it.
	Signer string `json:"signer"`
	// Tekton are the releases that accept the signature.
	Tekton []string `json:"tekton,omitempty"`
}

func newVerification(found *oci.Image, verified bool) *verification {
	v := &verification{Reference: found.Reference, Verified: verified, Signers: slices.Concat([]string{}, found.Signers)}
	for _, err := range found.Unverified {
		v.Unverified = append(v.Unverified, strings.ReplaceAll(err.Error(), "\n", ": "))
	}
	for _, r := range found.Resources {
		id := oci.IDOf(r.Object)
		verified := verifiedResource{
			Kind: string(id.Kind), Namespace: id.Namespace, Name: id.Name,
			Checksum: hex.EncodeToString(r.Checksum()), Signer: r.Signer,
		}
		if r.Signer != "" {
			for _, dialect := range r.Dialects() {
				verified.Tekton = append(verified.Tekton, dialect.String())
			}
		}
		v.Resources = append(v.Resources, verified)
	}
	return v
}

// table prints the verification as text.
func (v *verification) table(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%s\nsigned with %s\n\n", v.Reference, orNone(strings.Join(v.Signers, " "))); err != nil {
		return err
	}
	const padding = 2
	t := tabwriter.NewWriter(w, 0, 0, padding, ' ', 0)
	_, _ = fmt.Fprintln(t, "KIND\tNAMESPACE\tNAME\tCHECKSUM\tSIGNED WITH\tFOR")
	for _, r := range v.Resources {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Kind, r.Namespace, r.Name, r.Checksum, orNone(r.Signer), strings.Join(r.Tekton, ", "))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, reason := range v.Unverified {
		if _, err := fmt.Fprintln(w, "Not counted:", reason); err != nil {
			return err
		}
	}
	return nil
}

func orNone(signer string) string {
	if signer == "" {
		return "no trusted key"
	}
	return signer
}
