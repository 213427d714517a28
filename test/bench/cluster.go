// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"

	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// bench is a cluster without a controller. Each measurement adds a controller
// and removes the controller at its end.
type bench struct {
	cluster    *harness.Cluster
	secretsDir string
	secret     fixtures.Secret  // in secretsDir
	publicKey  crypto.PublicKey // of the signing secret
	profiles   *profiles        // nil: no profiles are saved
	log        *log.Logger      // progress
}

// start starts a cluster in dir and configures it to sign every kind with a new
// key. With an empty profilesDir, no profiles are saved.
func start(ctx context.Context, dir, profilesDir string, progress *log.Logger) (*bench, error) {
	binaries, err := harness.Build(ctx, progress.Writer())
	if err != nil {
		return nil, fmt.Errorf("building the programs: %w", err)
	}
	if binaries.Controller, err = copyProgram(binaries.Controller, dir); err != nil {
		return nil, err
	}
	cluster, err := harness.Run(ctx, binaries, filepath.Join(dir, "cluster"), progress.Writer())
	if err != nil {
		return nil, fmt.Errorf("starting the cluster: %w", err)
	}
	b := &bench{cluster: cluster, secretsDir: filepath.Join(dir, "secrets"), log: progress}
	err = b.configure(ctx)
	if err == nil && profilesDir != "" {
		b.profiles, err = enableProfiles(ctx, cluster.Kube, profilesDir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("configuring the cluster: %w", err), cluster.Stop())
	}
	return b, nil
}

// copyProgram copies a program to dir and returns the path of the copy. A build
// that replaces the program during the run does not change what is measured.
func copyProgram(program, dir string) (string, error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	copied := filepath.Join(dir, filepath.Base(program))
	return copied, os.WriteFile(copied, content, 0o700)
}

func (b *bench) configure(ctx context.Context) error {
	secret, public, err := fixtures.CosignSecret()
	if err != nil {
		return err
	}
	if err := secret.Write(b.secretsDir); err != nil {
		return err
	}
	b.secret, b.publicKey = secret, public
	return b.cluster.Configure(ctx, harness.SignAll())
}

// withController starts a controller, calls do, and removes the controller.
func (b *bench) withController(ctx context.Context, threads int, do func(*harness.Controller) error) error {
	controller, err := b.cluster.AddController(ctx, "controller", b.secretsDir,
		"--threads-per-controller="+strconv.Itoa(threads))
	if err != nil {
		return err
	}
	return errors.Join(do(controller), controller.Remove(context.WithoutCancel(ctx)))
}
