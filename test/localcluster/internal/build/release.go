// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/state"
)

// Release is a release of a Go module whose programs take the place of those that All builds. They are built
// with the dependencies of the release, and not with those of localcluster.
type Release struct {
	// Name is the first part of the name of the directory of the binaries.
	Name            string
	Module, Version string
	// Binaries are the programs.
	Binaries []Binary
}

// Tekton returns a release of Tekton Pipelines.
func Tekton(version string) Release {
	return Release{"tekton", "github.com/tektoncd/pipeline", version, []Binary{
		{Name: TektonController, Package: "github.com/tektoncd/pipeline/cmd/controller"},
		{Name: TektonWebhook, Package: "github.com/tektoncd/pipeline/cmd/webhook"},
		{Name: TektonResolvers, Package: "github.com/tektoncd/pipeline/cmd/resolvers"},
	}}
}

// Kubernetes returns a release of the API server and of its clients that must not be newer.
func Kubernetes(version string) Release {
	return Release{"kubernetes", "k8s.io/kubernetes", version, []Binary{
		{Name: APIServer, Package: "k8s.io/kubernetes/cmd/kube-apiserver"},
		{Name: ControllerManager, Package: "k8s.io/kubernetes/cmd/kube-controller-manager"},
		{Name: Scheduler, Package: "k8s.io/kubernetes/cmd/kube-scheduler"},
	}}
}

// Has reports whether the binary with this name is part of the release.
func (r Release) Has(name string) bool {
	return slices.ContainsFunc(r.Binaries, func(b Binary) bool { return b.Name == name })
}

// Dir returns the directory of the binaries below bin.
func (r Release) Dir(bin string) string { return filepath.Join(bin, r.Name+"-"+r.Version) }

// Missing returns the names of the binaries that Build would build.
func (r Release) Missing(bin string) []string {
	var missing []string
	for _, b := range r.Binaries {
		if !current(filepath.Join(r.Dir(bin), b.Name), r.stamp(b)) {
			missing = append(missing, r.Name+"-"+r.Version+"/"+b.Name)
		}
	}
	return missing
}

// stamp identifies what a binary is built from. The release's own go.mod pins all other versions.
func (r Release) stamp(b Binary) string { return b.Package + "@" + r.Version }

// Build builds the binaries that are missing below bin. It calls report with one line for each.
func (r Release) Build(ctx context.Context, bin string, report func(format string, args ...any)) error {
	if len(r.Missing(bin)) == 0 {
		return nil
	}
	wrapper, err := os.MkdirTemp("", "release-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(wrapper) }()
	if err := r.wrap(ctx, wrapper); err != nil {
		return err
	}
	for _, b := range r.Binaries {
		start := time.Now()
		target := filepath.Join(r.Dir(bin), b.Name)
		if current(target, r.stamp(b)) {
			continue
		}
		cmd := exec.CommandContext(ctx, "go", "build", "-mod=mod", "-o", target, b.Package)
		cmd.Dir = wrapper
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s of %s@%s: %w\n%s", b.Package, r.Module, r.Version, err, out)
		}
		if err := state.WriteFile(stampFile(target), []byte(r.stamp(b)+"\n")); err != nil {
			return err
		}
		report("%s %s: built (%s)", b.Name, r.Version, time.Since(start).Round(100*time.Millisecond))
	}
	return nil
}

// wrap makes dir a Go module that requires the release and repeats its replace directives: Go ignores replace
// directives outside of the main module.
func (r Release) wrap(ctx context.Context, dir string) error {
	released, err := r.Download(ctx)
	if err != nil {
		return err
	}
	text, err := output(ctx, "go", "mod", "edit", "-json", released.GoMod)
	if err != nil {
		return err
	}
	wrapper, err := r.wrapper(text)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "go.mod"), wrapper, 0o600)
}

// goMod is the part of the output of go mod edit -json that a wrapper repeats.
type goMod struct {
	Go      string
	Replace []struct {
		Old, New struct{ Path, Version string }
	}
}

// wrapper returns the go.mod of a module that requires the release. The go.mod of Kubernetes replaces its own
// libraries by directories that are no part of the Go module. Their releases take their place.
func (r Release) wrapper(released []byte) ([]byte, error) {
	var from goMod
	if err := json.Unmarshal(released, &from); err != nil {
		return nil, fmt.Errorf("go.mod of %s@%s: %w", r.Module, r.Version, err)
	}
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, "module release\n\ngo %s\n\nrequire %s %s\n", from.Go, r.Module, r.Version)
	for _, replace := range from.Replace {
		by := replace.New
		if strings.HasPrefix(by.Path, "./staging/") {
			by.Path, by.Version = replace.Old.Path, "v0."+strings.TrimPrefix(r.Version, "v1.")
		}
		_, _ = fmt.Fprintf(&text, "replace %s %s => %s %s\n", replace.Old.Path, replace.Old.Version, by.Path, by.Version)
	}
	return []byte(text.String()), nil
}

// Download brings the module of the release into the module cache.
func (r Release) Download(ctx context.Context) (Dependency, error) {
	text, err := output(ctx, "go", "mod", "download", "-json", r.Module+"@"+r.Version)
	if err != nil {
		return Dependency{}, fmt.Errorf("download %s@%s: %w", r.Module, r.Version, err)
	}
	var found Dependency
	return found, json.Unmarshal(text, &found)
}

// output runs a command outside of any Go module.
func output(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = os.TempDir()
	out, err := cmd.Output()
	if err != nil {
		return nil, withStderr(err)
	}
	return out, nil
}
