package harness

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Tkn is the command line tool of Tekton, with which users push bundles.
type Tkn struct{}

var tkn = tool{name: "tkn", module: "github.com/tektoncd/cli", version: "v0.46.0", main: "cmd/tkn", replaces: true}

// BuildTkn makes the program if it is missing and writes its progress to out.
// It is not part of what all tests take: the first time it takes about three
// minutes of CPU time.
func BuildTkn(ctx context.Context, out io.Writer) (Tkn, error) { return Tkn{}, tkn.install(ctx, out) }

// PushBundle makes a bundle of what is in files, YAML or JSON, and returns its
// reference by digest. The reference that it is pushed to has a tag.
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
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home} // none of the user's credentials
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("tkn %s: %w: %s", strings.Join(args, " "), err, out)
	}
	_, pushed, found := strings.Cut(string(out), "Pushed Tekton Bundle to ")
	if !found {
		return "", fmt.Errorf("tkn %s does not say what it has pushed: %s", strings.Join(args, " "), out)
	}
	digest, _, _ := strings.Cut(pushed, "\n")
	return strings.TrimSpace(digest), nil
}
