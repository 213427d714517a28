// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"fmt"
	"net/http/cgi" //nolint:gosec // G504 is about Go before 1.6.3
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
)

// repositoryName is the last part of the repository's URL.
const repositoryName = "catalog"

// Git is a git repository that is served by HTTP on the loopback interface. Tekton's
// resolver accepts no local paths, and its shallow clones need git's own protocol, not
// plain files.
type Git struct {
	*server
	dir string
}

// StartGit serves an empty repository in a new directory. Close removes the directory.
func StartGit(ctx context.Context) (*Git, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "git-")
	if err != nil {
		return nil, err
	}
	g := &Git{dir: dir}
	if _, err = g.git(ctx, "init", "--quiet", "--initial-branch=main"); err == nil {
		g.server, err = serve(ctx, &cgi.Handler{
			Path: program,
			Args: []string{"http-backend"},
			Env:  append(g.environment(), "GIT_PROJECT_ROOT="+dir, "GIT_HTTP_EXPORT_ALL=1"),
		})
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return g, nil
}

// Close stops serving and removes the repository.
func (g *Git) Close() error { return errors.Join(g.Stop(), os.RemoveAll(g.dir)) }

// URL returns the URL for git clone. Tekton's resolver records it with the prefix "git+".
func (g *Git) URL() string { return "http://" + g.address + "/" + repositoryName }

// Ref returns a reference to a file at a revision, for Tekton's git resolver.
func (g *Git) Ref(revision, path string) v1.ResolverRef {
	return resolverRef("git", "url", g.URL(), "revision", revision, "pathInRepo", path)
}

// Commit writes content to path on the branch main and returns the commit.
func (g *Git) Commit(ctx context.Context, path string, content []byte) (string, error) {
	file := filepath.Join(g.dir, repositoryName, path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(file, content, 0o644); err != nil {
		return "", err
	}
	if _, err := g.git(ctx, "add", "--", path); err != nil {
		return "", err
	}
	if _, err := g.git(ctx, "commit", "--quiet", "--message", "Change "+path); err != nil {
		return "", err
	}
	return g.git(ctx, "rev-parse", "HEAD")
}

// git runs git in the work tree and returns its output.
func (g *Git) git(ctx context.Context, args ...string) (string, error) {
	tree := filepath.Join(g.dir, repositoryName)
	if err := os.MkdirAll(tree, 0o755); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Env = tree, g.environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// environment returns the complete environment of git. It excludes the user's
// configuration, and the GIT_ variables that exist if a git hook runs this process.
func (g *Git) environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + g.dir, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=test", "GIT_AUTHOR_EMAIL=test@example.com",
		"GIT_COMMITTER_NAME=test", "GIT_COMMITTER_EMAIL=test@example.com",
	}
}
