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

// output is the flag -o.
type output struct {
	format  string
	allowed []string
}

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

// verified is what bundle verify prints.
type verified struct {
	Reference string `json:"reference"`
	// Verified: the bundle and all in it are signed with a key that is trusted.
	Verified bool `json:"verified"`
	// Signers are the IDs of the trusted keys that signed the bundle.
	Signers []string `json:"signers"`
	// Unverified says why other signatures of the bundle are not counted.
	Unverified []string           `json:"unverified,omitempty"`
	Resources  []verifiedResource `json:"resources"`
}

type verifiedResource struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Checksum  string `json:"checksum"`
	// Signer is the ID of the trusted key that signed it, empty if none did.
	Signer string `json:"signer"`
}

func newVerified(found *oci.Image) *verified {
	v := &verified{Reference: found.Reference, Verified: found.CheckTrust() == nil, Signers: slices.Concat([]string{}, found.Signers)}
	for _, err := range found.Unverified {
		v.Unverified = append(v.Unverified, strings.ReplaceAll(err.Error(), "\n", ": "))
	}
	for _, r := range found.Resources {
		id := oci.IDOf(r.Object)
		v.Resources = append(v.Resources, verifiedResource{string(id.Kind), id.Namespace, id.Name, hex.EncodeToString(r.Checksum), r.Signer})
	}
	return v
}

func (v *verified) table(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%s\nsigned with %s\n\n", v.Reference, orNone(strings.Join(v.Signers, " "))); err != nil {
		return err
	}
	const padding = 2
	t := tabwriter.NewWriter(w, 0, 0, padding, ' ', 0)
	_, _ = fmt.Fprintln(t, "KIND\tNAMESPACE\tNAME\tCHECKSUM\tSIGNED WITH")
	for _, r := range v.Resources {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.Kind, r.Namespace, r.Name, r.Checksum, orNone(r.Signer))
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
