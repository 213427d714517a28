// SPDX-License-Identifier: Apache-2.0

package realnode

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// hierarchies returns where cgroups are mounted: one directory for each controller with version 1, one for all with
// version 2.
func hierarchies() ([]string, error) {
	mounts, err := mountPoints(func(m mount) bool { return m.kind == "cgroup" || m.kind == "cgroup2" })
	if err != nil {
		return nil, err
	}
	if len(mounts) == 0 {
		return nil, errors.New("no cgroups are mounted below /sys/fs/cgroup")
	}
	return mounts, nil
}

// makeCgroups makes the parent of the cgroups of Pods. The kubelet refuses to start without it.
func (n Node) makeCgroups() error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		dir := filepath.Join(root, n.cgroup())
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { // #nosec G301 -- as all cgroups
			return err
		}
		if err := enableControllers(dir); err != nil {
			return err
		}
	}
	return nil
}

// enableControllers lets the children of a cgroup of version 2 use all controllers.
func enableControllers(dir string) error {
	available, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // version 1
	}
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(available)) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+name), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// containerProcesses returns the processes in the cgroups of the node.
func (n Node) containerProcesses() ([]int, error) {
	roots, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var found []int
	for _, root := range roots {
		err := filepath.WalkDir(filepath.Join(root, n.cgroup()), func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) { // the cgroup, or none at all
				return nil
			}
			if err != nil || entry.Name() != "cgroup.procs" {
				return err
			}
			found = append(found, processesIn(path)...)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// processesIn reads the file cgroup.procs of a cgroup. There are none if the cgroup was removed meanwhile.
func processesIn(file string) (found []int) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	for field := range strings.FieldsSeq(string(content)) {
		if pid, err := strconv.Atoi(field); err == nil {
			found = append(found, pid)
		}
	}
	return found
}

// removeCgroups removes the cgroups of the node, which have no processes any more.
func (n Node) removeCgroups() error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	var errs []error
	for _, root := range roots {
		var dirs []string
		err := filepath.WalkDir(filepath.Join(root, n.cgroup()), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return nil // an error means that there are no cgroups of this node
		})
		errs = append(errs, err)
		for _, dir := range slices.Backward(dirs) { // children first
			if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
