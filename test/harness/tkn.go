// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Tkn is Tekton's command line tool, with which users push bundles.
type Tkn struct{}

var tkn = tool{name: "tkn", module: "github.com/tektoncd/cli", version: "v0.46.0", main: "cmd/tkn", replaces: true}

// BuildTkn builds the program if it is missing and writes its progress to out. The tests
// do not need tkn, so Build does not build it. The first build takes about three minutes
// of CPU time.
func BuildTkn(ctx context.Context, out io.Writer) (Tkn, error) { return Tkn{}, tkn.install(ctx, out) }

// PushBundle pushes a bundle of the resources in YAML or JSON files to ref, a reference
// with a tag. It returns the reference by digest.
func (Tkn) PushBundle(ctx context.Context, ref string, files ...string) (string, error) {
	home, err := os.MkdirTemp("", "tkn-home-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(home) }()
	args := []string{"bundle", "push", ref}
	for _, file := range files {
		args = append(args, "--filenames", file)
	}
	cmd := exec.CommandContext(ctx, tkn.path(), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home} // without the user's credentials
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("tkn %s: %w: %s", strings.Join(args, " "), err, out)
	}
	_, pushed, found := strings.Cut(string(out), "Pushed Tekton Bundle to ")
	if !found {
		return "", fmt.Errorf("the output of tkn %s does not name the pushed bundle: %s", strings.Join(args, " "), out)
	}
	digest, _, _ := strings.Cut(pushed, "\n")
	return strings.TrimSpace(digest), nil
}
