// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/cluster"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/realnode"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/state"
)

const (
	// upWithin is the time limit for the whole start. Each part has a shorter limit of its own.
	upWithin   = 5 * time.Minute
	downWithin = 2 * time.Minute
	poll       = 100 * time.Millisecond
	// supervisorLog is the name of the log of the supervisor itself.
	supervisorLog = "supervisor"
)

func newUp() *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster in the background and wait until it is ready",
		Long: `Up starts run in a background process and waits until the cluster is ready. It shows the progress and
returns an error if the cluster does not start. If the cluster runs already, up does nothing and succeeds.`,
		Example: `  localcluster up --dir /tmp/lc
  localcluster up --dir /tmp/lc --manifests config/
  localcluster up --dir /tmp/lc --node real`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.complete(); err != nil {
				return err
			}
			pid, err := state.Supervisor(flags.dir)
			if err != nil {
				return err
			}
			if pid != 0 {
				return alreadyUp(cmd, flags.dir, pid)
			}
			return flags.up(cmd)
		},
	}
	flags.add(cmd)
	return cmd
}

func alreadyUp(cmd *cobra.Command, dir string, pid int) error {
	if _, err := readState(dir); err != nil {
		return err
	}
	printf(cmd, "the cluster in %s runs already (pid %d)\n", dir, pid)
	return nil
}

// up runs `localcluster run` in a session of its own and shows its log until the cluster is ready.
func (f *runFlags) up(cmd *cobra.Command) error {
	layout, err := cluster.NewLayout(f.dir)
	if err != nil {
		return err
	}
	if err := state.Remove(layout.Dir); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.Create(layout.Log(supervisorLog))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	args := []string{
		"run", "--dir", layout.Dir, "--bin", f.bin, "--module", f.module,
		"--node", f.node.name, "--nodes", strconv.Itoa(f.nodes),
	}
	args = append(args, f.args()...)
	for _, m := range f.manifests {
		args = append(args, "--manifests", m)
	}
	child := exec.CommandContext(context.WithoutCancel(cmd.Context()), self, args...)
	child.Stdout, child.Stderr = log, log
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = child.Wait() // the log has the reason of an early end
	}()
	err = waitReady(cmd, layout, exited)
	if err != nil && cmd.Context().Err() != nil {
		// The user has interrupted up: stop the cluster, which is not ready yet.
		_ = child.Process.Signal(syscall.SIGTERM)
		<-exited
	}
	return err
}

// waitReady copies the supervisor's log to standard output until the cluster is ready or the supervisor ends.
func waitReady(cmd *cobra.Command, layout cluster.Layout, exited <-chan struct{}) error {
	log, err := os.Open(layout.Log(supervisorLog))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	var seen strings.Builder
	show := func() {
		// The cluster starts even if the reader has closed standard output.
		text, _ := io.ReadAll(log)
		seen.Write(text)
		printf(cmd, "%s", text)
	}
	defer show()
	err = wait.PollUntilContextTimeout(cmd.Context(), poll, upWithin, true, func(context.Context) (bool, error) {
		show()
		select {
		case <-exited:
			return false, fmt.Errorf("the cluster did not start: see the output above or %s", layout.Log(supervisorLog))
		default:
		}
		return strings.Contains(seen.String(), "\n"+cluster.ReadyLine), nil
	})
	if cmd.Context().Err() != nil {
		return errors.New("interrupted before the cluster was ready: the cluster is stopped")
	}
	if wait.Interrupted(err) {
		return fmt.Errorf("the cluster is not ready after %s: see the logs in %s, or stop it with `localcluster down --dir %s`", upWithin, layout.Logs(), layout.Dir)
	}
	return err
}

func newDown() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:     "down",
		Short:   "Stop a cluster and wait until all its parts have ended",
		Long:    "Down stops the cluster in the directory. The data stays, so up starts the same cluster again. To delete the\ndata, remove the directory.",
		Example: "  localcluster down --dir /tmp/lc",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			pid, err := state.Supervisor(dir)
			if err != nil {
				return err
			}
			if pid == 0 {
				printf(cmd, "no cluster runs in %s\n", dir)
			} else if err := down(cmd, dir, pid); err != nil {
				return err
			}
			// A supervisor that was killed, perhaps just now, has left these.
			return errors.Join(realnode.CleanUp(cmd.Context(), dir), state.Remove(dir))
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}

func down(cmd *cobra.Command, dir string, pid int) error {
	start := time.Now()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) { // it has ended meanwhile
		return fmt.Errorf("stop the supervisor (pid %d): %w", pid, err)
	}
	err := wait.PollUntilContextTimeout(cmd.Context(), poll, downWithin, true, func(context.Context) (bool, error) {
		now, err := state.Supervisor(dir)
		return now != pid, err
	})
	if err != nil {
		return fmt.Errorf("the supervisor (pid %d) has not ended after %s: %w", pid, time.Since(start).Round(time.Second), err)
	}
	printf(cmd, "stopped the cluster in %s (%.1fs)\n", dir, time.Since(start).Seconds())
	return nil
}
