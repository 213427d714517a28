// SPDX-License-Identifier: Apache-2.0

package config

import (
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
)

// Store has the last good configuration. NewStore makes a Store.
type Store struct {
	current  atomic.Pointer[Config]
	onChange func(*Config)
	onError  func(*corev1.ConfigMap, error)

	mu          sync.Mutex // guards the fields below
	chains, own map[string]string
	known       bool // chains was delivered
}

// NewStore returns a Store with the configuration Default. Update calls onChange
// after a new configuration is in force, and onError for a ConfigMap that was
// refused.
func NewStore(onChange func(*Config), onError func(*corev1.ConfigMap, error)) *Store {
	s := &Store{onChange: onChange, onError: onError}
	s.current.Store(Default())
	return s
}

// Load returns the configuration in force.
func (s *Store) Load() *Config { return s.current.Load() }

// Update replaces the configuration when chains-config or OwnConfigMap has changed. The
// previous configuration stays in force if there is an error. Update is a
// configmap.Observer of knative.
func (s *Store) Update(cm *corev1.ConfigMap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cm.Name == OwnConfigMap {
		s.own = cm.Data
	} else {
		s.chains, s.known = cm.Data, true
	}
	if !s.known {
		return
	}
	next, err := ParseBoth(s.chains, s.own)
	if err != nil {
		s.onError(cm, err)
		return
	}
	s.current.Store(next)
	s.onChange(next)
}
