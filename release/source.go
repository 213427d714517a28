// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// source is the commit from which a release is made.
type source struct {
	commit string
	time   time.Time
}

// readSource returns the commit of the working directory. Files that differ from the
// commit are an error, because the provenance would name a source that was not used.
func readSource(ctx context.Context) (source, error) {
	changed, err := git(ctx, "status", "--porcelain")
	if err != nil {
		return source{}, err
	}
	if changed != "" {
		return source{}, fmt.Errorf("these files differ from the commit, commit or remove them first:\n%s", changed)
	}
	head, err := git(ctx, "show", "--no-patch", "--format=%H %ct", "HEAD")
	if err != nil {
		return source{}, err
	}
	commit, seconds, _ := strings.Cut(head, " ")
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return source{}, fmt.Errorf("time of commit %s: %w", commit, err)
	}
	return source{commit: commit, time: time.Unix(unix, 0).UTC()}, nil
}

func git(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}
