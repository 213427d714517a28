// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
)

// Layout provides the paths of the files of a cluster.
type Layout struct{ Dir string }

// NewLayout creates the directories of a cluster. Only the user can read them.
func NewLayout(dir string) (Layout, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Layout{}, err
	}
	l := Layout{Dir: abs}
	for _, d := range []string{l.Dir, l.Logs(), l.identities(), l.config()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return Layout{}, err
		}
	}
	if err := os.Chmod(l.Dir, 0o700); err != nil { // #nosec G302 -- a directory needs the execute bit
		return Layout{}, fmt.Errorf("make %s private: %w", l.Dir, err)
	}
	return l, nil
}

// Logs returns the directory of all logs.
func (l Layout) Logs() string { return filepath.Join(l.Dir, "logs") }

// Log returns the log file of a part.
func (l Layout) Log(part string) string { return filepath.Join(l.Logs(), part+".log") }

// Kubeconfig returns the path of the administrator's kubeconfig.
func (l Layout) Kubeconfig() string { return filepath.Join(l.Dir, "kubeconfig") }

// identity returns the path of the kubeconfig of a part.
func (l Layout) identity(name string) string {
	return filepath.Join(l.identities(), name+".kubeconfig")
}

func (l Layout) identities() string  { return filepath.Join(l.Dir, "identities") }
func (l Layout) config() string      { return filepath.Join(l.Dir, "config") }
func (l Layout) pki() string         { return filepath.Join(l.Dir, "pki") }
func (l Layout) etcdData() string    { return filepath.Join(l.Dir, "etcd") }
func (l Layout) ports() string       { return filepath.Join(l.config(), "ports.json") }
func (l Layout) tokens() string      { return filepath.Join(l.config(), "tokens.csv") }
func (l Layout) auditPolicy() string { return filepath.Join(l.config(), "audit-policy.yaml") }
func (l Layout) podStage() string    { return filepath.Join(l.config(), "pod-complete.yaml") }
func (l Layout) kwokOptions() string { return filepath.Join(l.config(), "kwok.yaml") }
func (l Layout) podSecurity() string { return filepath.Join(l.config(), "admission.yaml") }
