// SPDX-License-Identifier: Apache-2.0

// Package tektonreleases has what the tests with several releases of Tekton Pipelines use:
// the releases, their examples, programs that compute checksums with their code, and
// random resources.
package tektonreleases

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// All are the releases that are tested: the newest patch of each release with
// long-term support, and the newest release. The first is the oldest that the
// controller accepts.
var All = []string{"v1.6.2", "v1.9.2", "v1.12.0", Newest}

// Newest is the release in go.mod.
const Newest = "v1.15.0"

// module is the Go module of Tekton Pipelines.
const module = "github.com/tektoncd/pipeline"

// Dir brings the module of a release into the module cache and returns its directory.
func Dir(ctx context.Context, release string) (string, error) {
	download := exec.CommandContext(ctx, "go", "mod", "download", "-json", module+"@"+release)
	download.Dir = os.TempDir() // the version in a go.mod does not matter
	text, err := download.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", download, withStderr(err))
	}
	var found struct{ Dir string }
	return found.Dir, json.Unmarshal(text, &found)
}

// withStderr adds what a command wrote to standard error.
func withStderr(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return err
}
