package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/test/harness"
	"github.com/trusted-resources/chains-extension/test/keys"
)

// bench is a cluster without a controller: the parts add one as they need it.
type bench struct {
	options

	cluster  *harness.Cluster
	dir      string // of everything on disk
	progress io.Writer
	started  time.Time
}

// start brings up a cluster where every kind is to be signed with a new key.
func start(ctx context.Context, o options, progress io.Writer) (*bench, error) {
	binaries, err := harness.Build(ctx, progress)
	if err != nil {
		return nil, fmt.Errorf("building: %w", err)
	}
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, dir: dir, progress: progress, started: time.Now()}
	if b.cluster, err = harness.Run(ctx, binaries, filepath.Join(dir, "cluster"), progress); err != nil {
		return nil, fmt.Errorf("starting the cluster: %w; its logs are kept in %s", err, dir)
	}
	if err := b.configure(ctx); err != nil {
		return nil, b.stop(fmt.Errorf("configuring: %w", err))
	}
	return b, nil
}

// stop ends the cluster. Its directory is kept if something had failed.
func (b *bench) stop(failure error) error {
	err := errors.Join(failure, b.cluster.Stop())
	if err != nil {
		b.logf("logs are kept in %s", b.dir)
		return err
	}
	return os.RemoveAll(b.dir)
}

func (b *bench) configure(ctx context.Context) error {
	secret, _, err := keys.CosignSecret()
	if err != nil {
		return err
	}
	if err := secret.Write(b.secretsDir()); err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"data": map[string]string{
		"artifacts.task.signer":       "x509",
		"artifacts.pipeline.signer":   "x509",
		"artifacts.stepaction.signer": "x509",
	}})
	if err != nil {
		return err
	}
	_, err = b.cluster.Kube.CoreV1().ConfigMaps(harness.SystemNamespace).
		Patch(ctx, harness.ConfigMap, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

func (b *bench) secretsDir() string { return filepath.Join(b.dir, "secrets") }

// withController calls do with a fresh controller and removes that afterwards.
func (b *bench) withController(ctx context.Context, do func(*harness.Controller) error) error {
	controller, err := b.cluster.AddController(ctx, "controller", b.secretsDir(),
		"--threads-per-controller="+strconv.Itoa(b.concurrency))
	if err != nil {
		return err
	}
	return errors.Join(do(controller), controller.Remove(context.WithoutCancel(ctx)))
}

// logf tells about progress.
func (b *bench) logf(format string, args ...any) {
	fmt.Fprintf(b.progress, "%6.1fs  %s\n", time.Since(b.started).Seconds(), fmt.Sprintf(format, args...))
}
