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

// bench is a cluster without a controller: the parts add one as they need it.
type bench struct {
	cluster    *harness.Cluster
	secretsDir string
	publicKey  crypto.PublicKey // of the signing secret
	profiles   *profiles        // nil: no profiles are saved
	log        *log.Logger      // progress
}

// start brings up a cluster below dir where every kind is to be signed with a
// new key. Profiles of the controller go to profilesDir, unless it is empty.
func start(ctx context.Context, dir, profilesDir string, progress *log.Logger) (*bench, error) {
	binaries, err := harness.Build(ctx, progress.Writer())
	if err != nil {
		return nil, fmt.Errorf("building: %w", err)
	}
	if binaries.Controller, err = private(binaries.Controller, dir); err != nil {
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

// private copies a program to dir: the whole run is of one version, even when
// somebody builds another meanwhile.
func private(program, dir string) (string, error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	own := filepath.Join(dir, filepath.Base(program))
	return own, os.WriteFile(own, content, 0o700)
}

func (b *bench) configure(ctx context.Context) error {
	secret, public, err := fixtures.CosignSecret()
	if err != nil {
		return err
	}
	if err := secret.Write(b.secretsDir); err != nil {
		return err
	}
	b.publicKey = public
	return b.cluster.Configure(ctx, harness.SignAll())
}

// withController calls do with a fresh controller and removes that afterwards.
func (b *bench) withController(ctx context.Context, threads int, do func(*harness.Controller) error) error {
	controller, err := b.cluster.AddController(ctx, "controller", b.secretsDir,
		"--threads-per-controller="+strconv.Itoa(threads))
	if err != nil {
		return err
	}
	return errors.Join(do(controller), controller.Remove(context.WithoutCancel(ctx)))
}
