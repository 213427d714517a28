// SPDX-License-Identifier: Apache-2.0

package config

import (
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
)

// Store has the last good configuration. NewStore makes a Store.
type Store struct {
	current  atomic.Pointer[Config]
	onChange func(*Config)
	onError  func(*corev1.ConfigMap, error)
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

// Update replaces the configuration by the content of a ConfigMap. The previous
// configuration stays in force if the ConfigMap has an error. Update is a
// configmap.Observer of knative.
func (s *Store) Update(cm *corev1.ConfigMap) {
	next, err := Parse(cm.Data)
	if err != nil {
		s.onError(cm, err)
		return
	}
	s.current.Store(next)
	s.onChange(next)
}
