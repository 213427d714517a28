package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

const controllerPart = "controller"

func up(cmd *cobra.Command) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	binaries, err := harness.Build(ctx, out)
	if err != nil {
		return err
	}
	cluster, err := harness.Up(ctx, binaries, clusterDir(), out)
	if err != nil {
		return err
	}
	if err := makeKeys(); err != nil {
		return err
	}
	if err := cluster.Configure(ctx, harness.SignAll()); err != nil {
		return err
	}
	if err := cluster.OptIn(ctx, "default"); err != nil {
		return err
	}
	if _, err := cluster.Part(ctx, controllerPart); err != nil { // not there yet
		if _, err := cluster.AddController(ctx, controllerPart, secretsDir()); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, `
The cluster runs, and the controller signs what is in namespace default.

  export KUBECONFIG=%s PATH=%s:$PATH
  kubectl apply -f config/samples/
  kubectl get tasks,pipelines,stepactions -o custom-columns='KIND:.kind,NAME:.metadata.name,SIGNATURE:.metadata.annotations.tekton\.dev/signature'
  kubectl get events

Public key:        %s
Log:               %s
Another namespace: kubectl label namespace NAME %s=true
Stop it all:       make cluster-down
`, cluster.Kubeconfig(), binaries.Dir, publicKey(), cluster.Log(controllerPart), config.NamespaceLabel)
	return nil
}

// makeKeys makes the signing secret once; it outlives the cluster's restarts.
func makeKeys() error {
	_, err := os.Stat(filepath.Join(secretsDir(), fixtures.CosignKey))
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	secret, _, err := fixtures.CosignSecret()
	if err != nil {
		return err
	}
	if err := secret.Write(secretsDir()); err != nil {
		return err
	}
	return os.WriteFile(publicKey(), secret[fixtures.CosignPub], 0o644)
}

func run(cmd *cobra.Command) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	binaries, err := harness.Build(ctx, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	cluster, err := harness.Connect(binaries, clusterDir())
	if err != nil {
		return fmt.Errorf("%w; make cluster-up starts a cluster", err)
	}
	if _, err := cluster.Part(ctx, controllerPart); err == nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "stopping the cluster's own controller; make cluster-up brings it back")
		if err := cluster.Control(ctx, "remove", controllerPart); err != nil {
			return err
		}
	}
	return cluster.RunController(ctx, out, secretsDir())
}

func down(cmd *cobra.Command) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	binaries, err := harness.Build(ctx, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	if err := harness.Down(ctx, binaries, clusterDir(), out); err != nil {
		return err
	}
	return removeData()
}

// removeData leaves only the binaries.
func removeData() error {
	entries, err := os.ReadDir(clusterDir())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == "bin" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(clusterDir(), entry.Name())); err != nil {
			return err
		}
	}
	return nil
}
