// SPDX-License-Identifier: Apache-2.0

//go:build release

// Package release makes a release twice, as make release does, and checks it with the
// programs that users have: cosign, sha256sum and kubectl.
package release

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/trusted-resources/chains-extension/test/harness"
)

const (
	version  = "v0.0.1-test.1"
	password = "release"
)

// made is the release that all tests check.
var made struct {
	registry *harness.Registry
	// first is the source with the signed release, again is a copy of it with the same
	// release, not signed.
	first, again string
	public       crypto.PublicKey
	image        name.Digest
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "release-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		err = makeTwice(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := made.registry.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func makeTwice(ctx context.Context, dir string) (err error) {
	if err := harness.BuildCosigns(ctx, os.Stderr); err != nil {
		return err
	}
	if made.registry, err = harness.StartRegistry(ctx); err != nil {
		return err
	}
	key, public, err := newest().GenerateKeyPair(ctx, dir, password)
	if err != nil {
		return err
	}
	made.public = public
	made.first, made.again = filepath.Join(dir, "first"), filepath.Join(dir, "again")
	for _, source := range []string{made.first, made.again} {
		if err := copySource(ctx, source); err != nil {
			return err
		}
	}
	if err := errors.Join(
		makeRelease(ctx, made.first, "VERSION="+version, "REPOSITORY="+repository(), "KEY="+key),
		makeRelease(ctx, made.again, "VERSION="+version, "REPOSITORY="+repository()),
	); err != nil {
		return err
	}
	tag, err := name.NewTag(repository() + ":" + version)
	if err != nil {
		return err
	}
	pushed, err := remote.Head(tag, remote.WithContext(ctx))
	if err != nil {
		return err
	}
	made.image = tag.Digest(pushed.Digest.String())
	return nil
}

func repository() string { return made.registry.Host() + "/trusted-resources/controller" }

func newest() harness.Cosign { return harness.Cosigns[len(harness.Cosigns)-1] }

// copySource makes a repository with one commit, which has all files of this source
// tree, also those that are not committed yet. The commit has the same hash each time.
func copySource(ctx context.Context, dir string) error {
	const script = `set -euo pipefail
git init --quiet "$1"
git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from - --ignore-failed-read | tar --extract --directory "$1"
cd "$1"
git add --all
git -c commit.gpgsign=false commit --quiet --message "source of the test"`
	cmd := exec.CommandContext(ctx, "bash", "-c", script, "copy", dir)
	cmd.Dir = harness.Root()
	const when = "2026-01-02T03:04:05Z"
	cmd.Env = append(os.Environ(),
		"GIT_AUTHOR_NAME=test", "GIT_AUTHOR_EMAIL=test@example.com", "GIT_AUTHOR_DATE="+when,
		"GIT_COMMITTER_NAME=test", "GIT_COMMITTER_EMAIL=test@example.com", "GIT_COMMITTER_DATE="+when)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("copying the source to %s: %w: %s", dir, err, out)
	}
	return nil
}

// makeRelease runs make release with a cosign that is built already.
func makeRelease(ctx context.Context, source string, variables ...string) error {
	cmd := exec.CommandContext(ctx, "make", append([]string{"release", "COSIGN=" + newest().Path()}, variables...)...)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "COSIGN_PASSWORD="+password)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make release %s: %w: %s", strings.Join(variables, " "), err, out)
	}
	return nil
}

func dist(file string) string { return filepath.Join(made.first, "dist", file) }
