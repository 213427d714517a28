// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	modulePath = "github.com/trusted-resources/chains-extension/test/localcluster"
	// inRepository is the path of the module in the repository.
	inRepository = "test/localcluster"
)

// FindModule returns the directory of the localcluster module. It searches the working directory and its
// parents, and test/localcluster in each of them, then does the same from the directory of the running binary.
func FindModule() (string, error) {
	var starts []string
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	for _, start := range starts {
		for dir := start; ; dir = filepath.Dir(dir) {
			for _, candidate := range []string{dir, filepath.Join(dir, inRepository)} {
				if isModule(candidate) {
					return candidate, nil
				}
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", fmt.Errorf("the Go module %s is not in the repository of the working directory or of the binary: give its directory with --module", modulePath)
}

func isModule(dir string) bool {
	data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(first) == "module "+modulePath
}

// DefaultBin returns the default directory of the binaries: .localcluster/bin at the top of the repository.
func DefaultBin(module string) string {
	return filepath.Join(module, "..", "..", ".localcluster", "bin")
}

// Dependency is a Go module in the module cache.
type Dependency struct{ Path, Version, Dir, GoMod string }

// Dependencies returns the modules with the given paths, in that order, in the versions that module requires.
func Dependencies(ctx context.Context, module string, paths ...string) ([]Dependency, error) {
	args := append([]string{"list", "-m", "-json"}, paths...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = module
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list in %s: %w", module, withStderr(err))
	}
	found := make([]Dependency, len(paths))
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for i := range found {
		if err := dec.Decode(&found[i]); err != nil {
			return nil, fmt.Errorf("output of go list in %s: %w", module, err)
		}
		if found[i].Dir == "" {
			return nil, fmt.Errorf("module %s is not in the module cache: run `go mod download` in %s", found[i].Path, module)
		}
	}
	return found, nil
}

// withStderr adds what the command wrote to standard error.
func withStderr(err error) error {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return err
}
