// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// Go modules whose manifests and examples the tests read.
const (
	ModuleChains    = "github.com/tektoncd/chains"
	ModulePipelines = "github.com/tektoncd/pipeline"
)

// ModuleDir returns the directory of a Go module, in the version that this source tree
// requires.
func ModuleDir(ctx context.Context, module string) (string, error) {
	list := exec.CommandContext(ctx, "go", "list", "-C", Root(), "-m", "-f", "{{.Dir}}", module)
	dir, err := list.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", list, err)
	}
	return strings.TrimSpace(string(dir)), nil
}
