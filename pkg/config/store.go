package config

import (
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
)

// Store holds the last good configuration. The zero value is not usable: see
// NewStore.
type Store struct {
	current  atomic.Pointer[Config]
	onChange func(*Config)
	onError  func(*corev1.ConfigMap, error)
}

// NewStore starts with Default, which signs nothing. onChange is called after
// each new configuration is in force, onError for each ConfigMap that was
// refused; neither is called concurrently as long as Update is not.
func NewStore(onChange func(*Config), onError func(*corev1.ConfigMap, error)) *Store {
	s := &Store{onChange: onChange, onError: onError}
	s.current.Store(Default())
	return s
}

// Load is the configuration in force.
func (s *Store) Load() *Config { return s.current.Load() }

// Update takes a new ConfigMap in, or keeps the configuration in force when it
// cannot be read. It has the form of a knative configmap.Observer.
func (s *Store) Update(cm *corev1.ConfigMap) {
	next, err := Parse(cm.Data)
	if err != nil {
		s.onError(cm, err)
		return
	}
	s.current.Store(next)
	s.onChange(next)
}
