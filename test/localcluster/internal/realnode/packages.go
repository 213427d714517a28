// SPDX-License-Identifier: Apache-2.0

package realnode

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Programs that a real node takes from packages of the system.
const (
	containerd = "containerd"
	shim       = "containerd-shim-runc-v2"
	runc       = "runc"
	// Shell has the applets of busybox, linked statically. The shell image of Tekton contains it.
	Shell = "/bin/busybox"
)

// packages maps each program to its Debian package.
var packages = []struct{ program, name string }{
	{containerd, "containerd"}, {shim, "containerd"}, {runc, "runc"}, {Shell, "busybox-static"},
	{"/usr/sbin/update-ca-certificates", "ca-certificates"}, // makes the file with the certificates
}

// ErrRequirements means that the machine cannot run a real node. The message says what to do.
var ErrRequirements = errors.New("this machine cannot run a real node")

// MissingPackages returns the Debian packages of the programs that are not installed.
func MissingPackages() []string {
	var missing []string
	for _, p := range packages {
		if len(missing) > 0 && missing[len(missing)-1] == p.name {
			continue
		}
		if _, err := exec.LookPath(p.program); err != nil {
			missing = append(missing, p.name)
		}
	}
	return missing
}

// CheckMachine returns an error that wraps ErrRequirements if the machine cannot run a real node.
func CheckMachine() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: the kubelet needs root, the user has UID %d: run this as root, or use --node kwok", ErrRequirements, os.Geteuid())
	}
	if missing := MissingPackages(); len(missing) > 0 {
		return fmt.Errorf("%w: programs are missing: run `apt-get install --no-install-recommends %s`, or use --node kwok", ErrRequirements, strings.Join(missing, " "))
	}
	return nil
}
