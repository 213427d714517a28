// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/supervisor"
)

// newAction returns a command that does an action on a part. Repeating the action is not an error.
func newAction(action, short string) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:     action + " PART",
		Short:   short,
		Long:    short + ". The part keeps its port and its data. `localcluster status` lists the parts.",
		Example: fmt.Sprintf("  localcluster %s kube-apiserver --dir /tmp/lc", action),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := connect(dir)
			if err != nil {
				return err
			}
			start := time.Now()
			parts, err := client.Do(cmd.Context(), args[0], action)
			if err != nil {
				return err
			}
			report(cmd, parts, args[0], time.Since(start))
			return nil
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}

// report prints the state of one part.
func report(cmd *cobra.Command, parts []proc.Status, name string, took time.Duration) {
	for _, p := range parts {
		if p.Name != name {
			continue
		}
		pid := ""
		if p.State == proc.Running {
			pid = fmt.Sprintf(", pid %d", p.PID)
		}
		printf(cmd, "%s is %s%s (%.1fs)\n", p.Name, p.State, pid, took.Seconds())
	}
}

func newAdd() *cobra.Command {
	var (
		dir string
		req supervisor.AddRequest
	)
	cmd := &cobra.Command{
		Use:   "add NAME --dir DIR [--env K=V ...] [--ready-url URL] -- COMMAND ARGS...",
		Short: "Run one more process as a part of the cluster",
		Long: `Add runs a process as a part of the cluster: its log is in the same directory, status shows it, start, stop,
kill and restart work on it, and it ends with the cluster. The process runs in the current directory, with
the environment of the supervisor and the variables of --env. KUBECONFIG is the administrator's unless --env
sets it.`,
		Example: `  localcluster kubeconfig --dir /tmp/lc --service-account tekton-chains/controller --output /tmp/sa
  localcluster add controller --dir /tmp/lc --env KUBECONFIG=/tmp/sa --env SYSTEM_NAMESPACE=tekton-chains \
    --ready-url http://127.0.0.1:8081/readiness -- bin/controller --verbose`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() != 1 {
				return fmt.Errorf("put -- between the name and the command: %s", cmd.Use)
			}
			client, err := connect(dir)
			if err != nil {
				return err
			}
			req.Name, req.Command = args[0], args[1:]
			if err := completeAdd(&req); err != nil {
				return err
			}
			start := time.Now()
			parts, err := client.Add(cmd.Context(), req)
			if err != nil {
				return err
			}
			report(cmd, parts, req.Name, time.Since(start))
			return nil
		},
	}
	dirFlag(cmd, &dir)
	cmd.Flags().StringArrayVar(&req.Env, "env", nil, "environment variable K=V (repeatable)")
	cmd.Flags().StringVar(&req.ReadyURL, "ready-url", "", "URL that responds with a 2xx status when the part is healthy (default: a running process is healthy)")
	cmd.Flags().DurationVar(&req.ReadyTimeout, "ready-timeout", time.Minute, "how long to wait for --ready-url")
	return cmd
}

// completeAdd makes the request independent of the working directory of the supervisor.
func completeAdd(req *supervisor.AddRequest) error {
	for _, env := range req.Env {
		if name, _, ok := strings.Cut(env, "="); !ok || name == "" {
			return fmt.Errorf("--env %q is not of the form K=V", env)
		}
	}
	path, err := exec.LookPath(req.Command[0])
	if err != nil {
		return err
	}
	if req.Command[0], err = filepath.Abs(path); err != nil {
		return err
	}
	req.Dir, err = os.Getwd()
	return err
}

func newRemove() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:     "remove NAME",
		Short:   "Stop a part that was added and forget it",
		Example: "  localcluster remove controller --dir /tmp/lc",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := connect(dir)
			if err != nil {
				return err
			}
			if _, err := client.Remove(cmd.Context(), args[0]); err != nil {
				return err
			}
			printf(cmd, "%s is removed\n", args[0])
			return nil
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}
