// SPDX-License-Identifier: Apache-2.0

// Package build builds the binaries of a cluster from the versions in the Go module of localcluster.
package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/state"
)

// Names of the binaries. A part of the cluster has the name of its binary.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Kwok              = "kwok"
	TektonController  = "tekton-controller"
	TektonWebhook     = "tekton-webhook"
	TektonResolvers   = "tekton-resolvers"
	Kubectl           = "kubectl" // not a part: for users and tests
)

// Names of the binaries of a real node. Those from Entrypoint on run in containers.
const (
	Kubelet        = "kubelet"
	Entrypoint     = "entrypoint"
	Nop            = "nop"
	WorkingDirInit = "workingdirinit"
	Pause          = "pause"
)

// Binary is a program and the Go package that it is built from.
type Binary struct {
	Name, Package string
	// Static programs need no file of their image: they are built without cgo.
	Static bool
}

// ControlPlane lists the programs that each cluster needs. The packages are tools in go.mod.
var ControlPlane = []Binary{
	{Name: Etcd, Package: "go.etcd.io/etcd/server/v3"},
	{Name: TektonController, Package: "github.com/tektoncd/pipeline/cmd/controller"},
	{Name: TektonWebhook, Package: "github.com/tektoncd/pipeline/cmd/webhook"},
	{Name: TektonResolvers, Package: "github.com/tektoncd/pipeline/cmd/resolvers"},
	{Name: APIServer, Package: "k8s.io/kubernetes/cmd/kube-apiserver"},
	{Name: ControllerManager, Package: "k8s.io/kubernetes/cmd/kube-controller-manager"},
	{Name: Scheduler, Package: "k8s.io/kubernetes/cmd/kube-scheduler"},
	{Name: Kubectl, Package: "k8s.io/kubernetes/cmd/kubectl"},
}

// KwokNode lists the programs of a node that runs no containers.
var KwokNode = []Binary{{Name: Kwok, Package: "sigs.k8s.io/kwok/cmd/kwok"}}

// RealNode lists the programs of a node that runs containers, apart from those of the system's packages.
var RealNode = []Binary{
	{Name: Kubelet, Package: "k8s.io/kubernetes/cmd/kubelet"},
	{Name: Entrypoint, Package: "github.com/tektoncd/pipeline/cmd/entrypoint", Static: true},
	{Name: Nop, Package: "github.com/tektoncd/pipeline/cmd/nop", Static: true},
	{Name: WorkingDirInit, Package: "github.com/tektoncd/pipeline/cmd/workingdirinit", Static: true},
	{Name: Pause, Package: modulePath + "/cmd/pause", Static: true},
}

// All builds into bin each binary that is missing or was built from other versions. It calls report with one
// line for each binary.
func All(ctx context.Context, module, bin string, binaries []Binary, report func(format string, args ...any)) error {
	if err := os.MkdirAll(bin, 0o750); err != nil {
		return err
	}
	for i, b := range binaries {
		start := time.Now()
		verb, err := ensure(ctx, module, bin, b)
		if err != nil {
			return fmt.Errorf("build %s from %s: %w", b.Name, b.Package, err)
		}
		report("%d/%d %s: %s (%s)", i+1, len(binaries), b.Name, verb, time.Since(start).Round(100*time.Millisecond))
	}
	return nil
}

// Missing returns the names of the binaries that All would build.
func Missing(module, bin string, binaries []Binary) ([]string, error) {
	var missing []string
	for _, b := range binaries {
		want, err := stamp(module, b)
		if err != nil {
			return nil, err
		}
		if !current(filepath.Join(bin, b.Name), want) {
			missing = append(missing, b.Name)
		}
	}
	return missing, nil
}

func ensure(ctx context.Context, module, bin string, b Binary) (verb string, err error) {
	target := filepath.Join(bin, b.Name)
	want, err := stamp(module, b)
	if err != nil {
		return "", err
	}
	if current(target, want) {
		return "up to date", nil
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", target, b.Package)
	cmd.Dir = module
	if b.Static {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return "built", state.WriteFile(stampFile(target), []byte(want+"\n"))
}

// stamp returns a hash of everything that a binary is built from: the package, the versions of all modules, and
// the version of the compiler.
func stamp(module string, b Binary) (string, error) {
	h := sha256.New()
	_, _ = fmt.Fprintln(h, b.Package, b.Static, runtime.Version())
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", err
		}
		_, _ = h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func stampFile(target string) string { return target + ".stamp" }

func current(target, want string) bool {
	if _, err := os.Stat(target); err != nil {
		return false
	}
	got, err := os.ReadFile(stampFile(target))
	return err == nil && strings.TrimSpace(string(got)) == want
}
