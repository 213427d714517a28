// SPDX-License-Identifier: Apache-2.0

package realnode

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrRequirements means that the machine cannot run a real node. The message says what to do.
var ErrRequirements = errors.New("this machine cannot run a real node")

// CheckMachine returns an error that wraps ErrRequirements if the machine cannot run a real node.
func CheckMachine() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: the kubelet needs root, the user has UID %d: run this as root, or use --node kwok", ErrRequirements, os.Geteuid())
	}
	if missing := MissingPackages(); len(missing) > 0 {
		return fmt.Errorf("%w: programs are missing: run `apt-get install --no-install-recommends %s`, or use --node kwok", ErrRequirements, strings.Join(missing, " "))
	}
	if err := errors.Join(checkMounts(), checkCgroups()); err != nil {
		return fmt.Errorf("%w: %w: allow this (a container needs to be privileged), or use --node kwok", ErrRequirements, err)
	}
	return nil
}

// checkMounts mounts a file system, as the kubelet does for the Secrets of a Pod.
func checkMounts() (err error) {
	dir, err := os.MkdirTemp("", "localcluster-mount-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("the process must not mount a tmpfs: %w", err)
	}
	return syscall.Unmount(dir, 0)
}

// checkCgroups makes a cgroup, as the kubelet does for each Pod.
func checkCgroups() error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		dir, err := os.MkdirTemp(root, "localcluster-")
		if err != nil {
			return fmt.Errorf("the process must not make a cgroup in %s: %w", root, err)
		}
		if err := os.Remove(filepath.Clean(dir)); err != nil {
			return err
		}
	}
	return nil
}
