// SPDX-License-Identifier: Apache-2.0

package realnode

import "os/exec"

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
