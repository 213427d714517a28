// SPDX-License-Identifier: Apache-2.0

package realnode

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
)

// mount is a line of /proc/self/mountinfo, see proc_pid_mountinfo(5).
type mount struct{ point, kind string }

// escapes are the characters that the kernel writes as octal numbers.
var escapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func parseMounts(info string) []mount {
	var mounts []mount
	for line := range strings.Lines(info) {
		before, after, found := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if !found || len(fields) < 5 {
			continue
		}
		kind, _, _ := strings.Cut(after, " ")
		mounts = append(mounts, mount{point: escapes.Replace(fields[4]), kind: kind})
	}
	return mounts
}

// mountPoints returns the points of the mounts of this process that are selected, in order of mounting.
func mountPoints(selected func(mount) bool) ([]string, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var points []string
	for _, m := range parseMounts(string(info)) {
		if selected(m) {
			points = append(points, m.point)
		}
	}
	return points, nil
}

// unmountBelow unmounts everything below the directories.
func unmountBelow(dirs ...string) error {
	points, err := mountPoints(func(m mount) bool {
		return slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasPrefix(m.point, dir+"/") })
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, point := range slices.Backward(points) {
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil {
			errs = append(errs, &os.PathError{Op: "unmount", Path: point, Err: err})
		}
	}
	return errors.Join(errs...)
}
