// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
)

func newStatus() *cobra.Command {
	var dir, output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the parts of a running cluster",
		Long: `Status lists the parts and their states: running (the process exists), stopped (on request) or exited
(without a request, which is an error). It fails if no cluster runs in the directory.`,
		Example: `  localcluster status --dir /tmp/lc
  localcluster status --dir /tmp/lc -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("unknown output format %q: use json, or leave it out for a table", output)
			}
			client, err := connect(dir)
			if err != nil {
				return err
			}
			parts, err := client.Parts(cmd.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(parts)
			}
			return printTable(cmd, parts)
		},
	}
	dirFlag(cmd, &dir)
	cmd.Flags().StringVarP(&output, "output", "o", "", "output format: json (default: a table)")
	return cmd
}

func printTable(cmd *cobra.Command, parts []proc.Status) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "NAME\tPID\tSTATE\tSINCE\tLOG") // Flush reports the error
	for _, p := range parts {
		pid, condition := "-", string(p.State)
		if p.State == proc.Running {
			pid = fmt.Sprint(p.PID)
		}
		if p.State == proc.Exited {
			condition += " (" + p.Exit + ")"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", p.Name, pid, condition, p.Since.Format(time.RFC3339), p.Log)
	}
	return w.Flush()
}
