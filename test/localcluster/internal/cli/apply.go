// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"sync"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/apply"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/cluster"
)

func newApply() *cobra.Command {
	var (
		dir, kubeconfig string
		skip            []string
	)
	cmd := &cobra.Command{
		Use:   "apply FILE-OR-DIR...",
		Short: "Apply manifests with server-side apply",
		Long: `Apply applies the YAML documents in files with forced server-side apply. In a directory, it applies the
*.yaml and *.yml files, but no subdirectories. Namespaces and custom resource definitions come first.`,
		Example: `  localcluster apply --dir /tmp/lc task.yaml
  localcluster apply --dir /tmp/lc --skip-kind Deployment,HorizontalPodAutoscaler config/
  localcluster apply --dir /tmp/lc --kubeconfig author.kubeconfig task.yaml`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := readState(dir)
			if err != nil {
				return err
			}
			if kubeconfig == "" {
				kubeconfig = s.Kubeconfig
			}
			objects, err := apply.Load(args...)
			if err != nil {
				return err
			}
			cfg, err := cluster.RESTConfig(kubeconfig)
			if err != nil {
				return err
			}
			applier, err := apply.New(cfg)
			if err != nil {
				return err
			}
			var mu sync.Mutex
			applier.Applied = func(obj *unstructured.Unstructured) {
				mu.Lock()
				defer mu.Unlock()
				printf(cmd, "applied %s\n", apply.Describe(obj))
			}
			return applier.Apply(cmd.Context(), apply.Without(objects, skip))
		},
	}
	dirFlag(cmd, &dir)
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig to use (default: the administrator's)")
	cmd.Flags().StringSliceVar(&skip, "skip-kind", nil, "kinds to leave out, such as Deployment")
	return cmd
}
