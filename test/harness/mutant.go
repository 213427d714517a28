// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Mutant is a change that breaks the controller. A test that passes with it shows nothing.
type Mutant struct {
	// File is a source file, relative to Root.
	File string
	// Old is a text that the file has once, New replaces it.
	Old, New string
}

// BuildMutant builds the controller with a change in dir, and returns the path of the
// program. The source tree stays as it is.
func BuildMutant(ctx context.Context, out io.Writer, dir string, m Mutant) (string, error) {
	original := filepath.Join(Root(), m.File)
	content, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(content), m.Old); n != 1 {
		return "", fmt.Errorf("%s has %d times %q, want once; adapt the mutant to the present code", m.File, n, m.Old)
	}
	changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return "", err
	}
	for file, data := range map[string][]byte{changed: []byte(strings.Replace(string(content), m.Old, m.New, 1)), overlay: replace} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			return "", err
		}
	}
	binary := filepath.Join(dir, "controller")
	build := command(ctx, out, "go", "build", "-C", Root(), "-overlay", overlay, "-o", binary, "./cmd/controller")
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("%s: %w", build, err)
	}
	return binary, nil
}
