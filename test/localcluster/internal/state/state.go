// Package state holds what a running cluster leaves in its directory for others to find.
package state

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
)

// State is the content of state.json. The file exists only while the cluster is ready to use; it is
// written again whenever a part changes.
type State struct {
	PID        int            `json:"pid"`     // of the supervisor
	Control    string         `json:"control"` // base URL of the control API
	Token      string         `json:"token"`   // bearer token of the control API
	Kubeconfig string         `json:"kubeconfig"`
	Ports      map[string]int `json:"ports"`
	Parts      []proc.Status  `json:"parts"`
}

func file(dir string) string { return filepath.Join(dir, "state.json") }

// Read returns the state of the cluster in dir. The error wraps fs.ErrNotExist if it has none.
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

// Write replaces the state file in one step, so a reader never sees half of it.
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

// WriteFile writes a private file (0600) in one step, by renaming.
func WriteFile(name string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already when all went well
	if _, err := tmp.Write(data); err != nil {
		_ = tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}
