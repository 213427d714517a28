// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/cluster"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/state"
)

// tokenValidFor is how long the token of a service account is valid.
const tokenValidFor = 24 * time.Hour

func newKubeconfig() *cobra.Command {
	var dir, account, output string
	cmd := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Write a kubeconfig for the administrator or a service account",
		Long: fmt.Sprintf(`Kubeconfig writes the administrator's kubeconfig, or the kubeconfig of a service account with a token
that is valid for %.0f hours.`, tokenValidFor.Hours()),
		Example: `  localcluster kubeconfig --dir /tmp/lc
  localcluster kubeconfig --dir /tmp/lc --service-account tekton-chains/tekton-chains-controller --output sa.kubeconfig`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := readState(dir)
			if err != nil {
				return err
			}
			text, err := os.ReadFile(s.Kubeconfig)
			if account != "" {
				text, err = accountKubeconfig(cmd, s.Kubeconfig, account)
			}
			if err != nil {
				return err
			}
			if output == "" {
				printf(cmd, "%s", text)
				return nil
			}
			if output, err = filepath.Abs(output); err != nil {
				return err
			}
			return state.WriteFile(output, text)
		},
	}
	dirFlag(cmd, &dir)
	cmd.Flags().StringVar(&account, "service-account", "", "NAMESPACE/NAME of the service account to act as (default: the administrator)")
	cmd.Flags().StringVar(&output, "output", "", "file to write, with mode 0600 (default: standard output)")
	return cmd
}

func accountKubeconfig(cmd *cobra.Command, kubeconfig, account string) ([]byte, error) {
	namespace, name, ok := strings.Cut(account, "/")
	if !ok || namespace == "" || name == "" {
		return nil, fmt.Errorf("--service-account %q is not of the form NAMESPACE/NAME", account)
	}
	cfg, err := cluster.RESTConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	return cluster.ServiceAccountKubeconfig(cmd.Context(), cfg, namespace, name, tokenValidFor)
}
