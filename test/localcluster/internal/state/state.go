// SPDX-License-Identifier: Apache-2.0

// Package state reads and writes the file with which other processes find a running cluster, and the lock on its
// directory.
package state

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
)

// State is the content of state.json. The file exists only while the cluster is ready. It is written again when a
// part changes.
type State struct {
	PID        int            `json:"pid"`     // of the supervisor
	Control    string         `json:"control"` // base URL of the control API
	Token      string         `json:"token"`   // bearer token of the control API
	Kubeconfig string         `json:"kubeconfig"`
	Ports      map[string]int `json:"ports"`
	Parts      []proc.Status  `json:"parts"`
}

func file(dir string) string { return filepath.Join(dir, "state.json") }

// Read returns the state of the cluster in dir. If there is no state file, the error wraps fs.ErrNotExist.
func Read(dir string) (State, error) {
	var s State
	data, err := os.ReadFile(file(dir))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("%s is not a state file: %w", file(dir), err)
	}
	return s, nil
}

// Write replaces the state file atomically, so a reader never reads an incomplete file.
func Write(dir string, s State) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(file(dir), append(data, '\n'))
}

// Remove deletes the state file if there is one.
func Remove(dir string) error {
	if err := os.Remove(file(dir)); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// WriteFile writes a private file (mode 0600) atomically, by renaming a temporary file.
func WriteFile(name string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*") // CreateTemp uses mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // fails after a successful rename
	if _, err := tmp.Write(data); err != nil {
		_ = tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}
