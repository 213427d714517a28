// SPDX-License-Identifier: Apache-2.0

package tektonreleases

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// Program computes checksums with the code of one release.
type Program struct{ path string }

// Build builds the program of a release, with the go.mod of the release in the
// directory checksums.
func Build(ctx context.Context, release string) (Program, error) {
	bin := filepath.Join(harness.Root(), ".localcluster", "bin", "tekton-"+release)
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return Program{}, err
	}
	p := Program{filepath.Join(bin, "checksums")}
	args := []string{"build", "-o", p.path}
	if release != Newest {
		args = append(args, "-modfile", release+".mod")
	}
	build := exec.CommandContext(ctx, "go", append(args, ".")...)
	build.Dir = filepath.Join(harness.Root(), "test", "tektonreleases", "checksums")
	if out, err := build.CombinedOutput(); err != nil {
		return Program{}, fmt.Errorf("%s: %w: %s", build, err, out)
	}
	return p, nil
}

// Checksums returns the output of the program for each line of JSON: a checksum in
// hexadecimal, or "-" and an error.
func (p Program) Checksums(ctx context.Context, lines [][]byte) ([]string, error) {
	program := exec.CommandContext(ctx, p.path)
	program.Stdin = bytes.NewReader(append(bytes.Join(lines, []byte("\n")), '\n'))
	out, err := program.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, withStderr(err))
	}
	sums := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(sums) != len(lines) {
		return nil, fmt.Errorf("%s printed %d lines for %d resources", program, len(sums), len(lines))
	}
	return sums, nil
}
