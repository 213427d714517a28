// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
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
	if err := cluster.InstallAdmission(ctx); err != nil {
		return err
	}
	if _, err := cluster.Part(ctx, controllerPart); err != nil { // the controller is not a part of the cluster yet
		controller, err := cluster.AddController(ctx, controllerPart, secretsDir())
		if err != nil {
			return err
		}
		if err := os.WriteFile(metricsURL(), []byte(controller.MetricsURL+"\n"), 0o644); err != nil {
			return err
		}
	}
	if _, err := cluster.Part(ctx, harness.PartWebhook); err != nil {
		if _, err := cluster.InstallWebhook(ctx); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, `
The cluster is ready. The controller signs Tasks, Pipelines and StepActions in the
namespace default. Next, create the samples and look at their signatures:

  export KUBECONFIG=%s PATH=%s:$PATH
  kubectl apply -f config/samples/
  kubectl get tasks,pipelines,stepactions -o custom-columns='KIND:.kind,NAME:.metadata.name,SIGNATURE:.metadata.annotations.tekton\.dev/signature'
  kubectl get events

Public key:              %s
Log of the controller:   %s
Metrics:                 curl "$(cat %s)"
Opt in a namespace:      kubectl label namespace NAME %s=true
Hold what is unverified: kubectl label namespace NAME %s=%s
Use your own controller: make run
Stop the cluster:        make cluster-down
`, cluster.Kubeconfig(), binaries.Dir, publicKey(), cluster.Log(controllerPart), metricsURL(), v1alpha1.SignLabel, v1alpha1.VerifyLabel, v1alpha1.VerifyEnforce)
	return nil
}

// makeKeys creates the signing secret if there is none. make cluster-down removes the
// secret.
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
		return fmt.Errorf("%w; start a cluster with make cluster-up", err)
	}
	if _, err := cluster.Part(ctx, controllerPart); err == nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "removing the controller from the cluster; make cluster-up adds it again")
		if err := cluster.Control(ctx, "remove", controllerPart); err != nil {
			return err
		}
		if err := os.Remove(metricsURL()); err != nil && !errors.Is(err, fs.ErrNotExist) {
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

// removeData removes everything in the directory of the cluster except the binaries.
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
