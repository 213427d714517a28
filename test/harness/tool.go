// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"

	"golang.org/x/mod/modfile"
)

// tool is a program that is built from a released version of a Go module. It is not
// built in a module of this source tree, so its dependencies are those of the release.
type tool struct {
	// name is the file name of the program.
	name            string
	module, version string
	// main is the directory of the main package in the module, and empty if it is the
	// top directory.
	main string
	// replaces says that the module has replace directives. go install refuses such
	// modules.
	replaces bool
}

// program is the import path of the main package.
func (t tool) program() string { return path.Join(t.module, t.main) }

func (t tool) path() string { return filepath.Join(Root(), ".localcluster", "bin", t.name) }

// installed reports whether the program exists in the right version.
func (t tool) installed() bool { return t.builtInto(t.path()) == nil }

// install builds the program if it is missing and writes its progress to out. Other
// processes may install or run the program at the same time.
func (t tool) install(ctx context.Context, out io.Writer) error {
	if t.installed() {
		return nil
	}
	if err := t.replace(ctx, out); err != nil {
		return fmt.Errorf("%s@%s: %w", t.module, t.version, err)
	}
	return nil
}

func (t tool) replace(ctx context.Context, out io.Writer) error {
	bin := filepath.Dir(t.path())
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(bin, "."+t.name+"-") // the same file system, so that renaming is atomic
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	build, err := t.build(ctx, out, dir)
	if err != nil {
		return err
	}
	if err := build.Run(); err != nil {
		return fmt.Errorf("%s: %w", build, err)
	}
	file := filepath.Join(dir, path.Base(t.program()))
	if err := t.builtInto(file); err != nil {
		return err
	}
	return os.Rename(file, t.path())
}

// build returns the command that builds the program in dir.
func (t tool) build(ctx context.Context, out io.Writer, dir string) (*exec.Cmd, error) {
	if t.replaces {
		if err := t.writeModule(ctx, dir); err != nil {
			return nil, err
		}
		build := command(ctx, out, "go", "build", "-mod=mod", "-o", path.Base(t.program()), t.program())
		build.Dir = dir
		return build, nil
	}
	install := command(ctx, out, "go", "install", t.program()+"@"+t.version)
	install.Env = append(os.Environ(), "GOBIN="+dir)
	return install, nil
}

// writeModule makes dir a Go module that requires the module of the tool and repeats its
// replace directives. Go ignores replace directives outside of the main module.
func (t tool) writeModule(ctx context.Context, dir string) error {
	download := exec.CommandContext(ctx, "go", "mod", "download", "-json", t.module+"@"+t.version)
	answer, err := download.Output()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", download, err, answer)
	}
	var downloaded struct{ GoMod string }
	if err := json.Unmarshal(answer, &downloaded); err != nil {
		return fmt.Errorf("%s: %w", download, err)
	}
	goMod, err := os.ReadFile(downloaded.GoMod)
	if err != nil {
		return err
	}
	wrapper, err := t.wrapper(goMod)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "go.mod"), wrapper, 0o644)
}

// wrapper returns the go.mod for writeModule. goMod is the go.mod of the tool.
func (t tool) wrapper(goMod []byte) ([]byte, error) {
	released, err := modfile.Parse("go.mod", goMod, nil)
	if err != nil {
		return nil, err
	}
	var wrapper modfile.File
	if err := wrapper.AddModuleStmt("installed"); err != nil {
		return nil, err
	}
	if released.Go != nil {
		if err := wrapper.AddGoStmt(released.Go.Version); err != nil {
			return nil, err
		}
	}
	if err := wrapper.AddRequire(t.module, t.version); err != nil {
		return nil, err
	}
	for _, r := range released.Replace {
		if err := wrapper.AddReplace(r.Old.Path, r.Old.Version, r.New.Path, r.New.Version); err != nil {
			return nil, err
		}
	}
	return wrapper.Format()
}

// builtInto returns an error unless a file was built from the module in the right version.
func (t tool) builtInto(file string) error {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return err
	}
	if info.Main.Path != t.module || info.Main.Version != t.version {
		return fmt.Errorf("%s is built from %s@%s, want %s@%s", file, info.Main.Path, info.Main.Version, t.module, t.version)
	}
	return nil
}
