// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
)

func newKeyExport(access *keyAccess) *cobra.Command {
	var format, dir, ring string
	command := &cobra.Command{
		Use:   "export",
		Short: "Print the public halves of the keys, for auditors",
		Long: `Print the public halves of the keys, for auditors.

  pem   the keys that policies should trust now
  json  all keys with their states and times; also retired and revoked ones
  dir   writes to a directory: one file for each key, and the two above, as
        trusted.pem and keyring.json`,
		Example: `  tkn-trust key export > trusted.pem
  tkn-trust key export --format dir --dir keys`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (format == "dir") != (dir != "") {
				return fmt.Errorf("--format dir needs --dir, and --dir needs --format dir")
			}
			tool, err := access.connect(cmd, &output{})
			if err != nil {
				return err
			}
			tool.progress = cmd.ErrOrStderr()
			entries, err := tool.published(cmd.Context(), ring)
			if err != nil {
				return err
			}
			switch format {
			case "pem":
				return writePEM(tool.stdout, entries)
			case "json":
				return writeIndex(tool.stdout, entries)
			case "dir":
				return writeDir(dir, entries)
			}
			return fmt.Errorf("--format %q: expected pem, json or dir", format)
		},
	}
	flags := command.Flags()
	flags.StringVar(&ring, "ring", "", "name of the KeyRing (default: all)")
	flags.StringVar(&format, "format", "pem", "one of pem, json, dir")
	flags.StringVar(&dir, "dir", "", "directory for --format dir; it is created if it does not exist")
	return command
}

// published returns the public halves of one KeyRing or, without a name, of all.
func (t *keyTool) published(ctx context.Context, name string) ([]v1alpha1.PublishedKey, error) {
	rings, err := t.some(ctx, name)
	if err != nil {
		return nil, err
	}
	entries := []v1alpha1.PublishedKey{}
	for i := range rings {
		entries = append(entries, keyring.Published(&rings[i], &rings[i].Status)...)
		for _, key := range rings[i].Spec.Keys {
			if status := keyring.StatusOf(&rings[i].Status, key.Name); status == nil || status.KeyID == "" {
				t.say("Key %q of KeyRing %s is left out: the controller does not know its public half yet", key.Name, rings[i].Name)
			}
		}
	}
	return entries, nil
}

// some returns one KeyRing or, without a name, all. It is an error if there is none.
func (t *keyTool) some(ctx context.Context, name string) ([]v1alpha1.KeyRing, error) {
	if name != "" {
		ring, err := t.get(ctx, name)
		if err != nil {
			return nil, err
		}
		return []v1alpha1.KeyRing{*ring}, nil
	}
	all, err := t.list(ctx)
	if err == nil && len(all) == 0 {
		err = t.noKeyRing(ctx, name)
	}
	return all, err
}

// writePEM writes the keys that policies should trust, each with a comment.
func writePEM(w io.Writer, entries []v1alpha1.PublishedKey) error {
	for _, key := range entries {
		if !keyring.Trusted(key.State) {
			continue
		}
		since := ""
		if key.ActiveSince != nil {
			since = ", active since " + key.ActiveSince.UTC().Format(time.RFC3339)
		}
		if _, err := fmt.Fprintf(w, "# %s/%s: %s, %s%s\n%s\n", key.Ring, key.Name, key.KeyID, key.State, since, strings.TrimSpace(key.PublicKey)); err != nil {
			return err
		}
	}
	return nil
}

func writeIndex(w io.Writer, entries []v1alpha1.PublishedKey) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(entries)
}

// writeDir writes the files of the ConfigMap v1alpha1.TrustedKeysConfigMap to a directory.
func writeDir(dir string, entries []v1alpha1.PublishedKey) error {
	var trusted, index bytes.Buffer
	if err := writePEM(&trusted, entries); err != nil {
		return err
	}
	if err := writeIndex(&index, entries); err != nil {
		return err
	}
	files := map[string]string{v1alpha1.TrustedKeysBundle: trusted.String(), v1alpha1.TrustedKeysIndex: index.String()}
	for _, key := range entries {
		files[strings.TrimPrefix(key.KeyID, "sha256:")+".pub"] = key.PublicKey
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}
