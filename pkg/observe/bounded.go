// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"slices"
	"sync"

	"go.opentelemetry.io/otel/attribute"
)

const (
	// maxSeries bounds the series of one counter with labels that come from users. Beyond 2,000,
	// OpenTelemetry drops all labels.
	maxSeries = 1800
	// other is the value of labels in series beyond the bound.
	other = "_other"
)

// seenSeries remembers which series a counter has.
type seenSeries struct {
	mu   sync.Mutex
	seen map[counter]map[attribute.Distinct]bool
}

// bounded returns the labels of a counter. When the counter has too many series, the labels
// that come from users have the value "_other" in each new one.
func (s *seenSeries) bounded(c counted) []attribute.KeyValue {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[counter]map[attribute.Distinct]bool{}
	}
	if s.seen[c.counter] == nil {
		s.seen[c.counter] = map[attribute.Distinct]bool{}
	}
	seen := s.seen[c.counter]
	set := attribute.NewSet(c.attributes...)
	if seen[set.Equivalent()] {
		return c.attributes
	}
	if len(seen) < maxSeries {
		seen[set.Equivalent()] = true
		return c.attributes
	}
	return withoutNames(c.attributes)
}

// withoutNames returns the labels with the value "_other" for those that come from users.
func withoutNames(labels []attribute.KeyValue) []attribute.KeyValue {
	without := slices.Clone(labels)
	for i, label := range without {
		if isName(label.Key) {
			without[i].Value = attribute.StringValue(other)
		}
	}
	return without
}

// Labels whose values come from users. The name "namespace" would be taken by the namespace of
// the Pod that Prometheus scrapes.
const (
	namespaceLabel = attribute.Key("resource_namespace")
	policyLabel    = attribute.Key("policy")
)

// isName reports whether the values of a label come from users.
func isName(label attribute.Key) bool {
	return label == namespaceLabel || label == policyLabel || label == keyIDLabel
}

// kindLabel is the label with the kind of a resource or of a run.
const kindLabel = attribute.Key("kind")

// cacheLabel is the label with the name of a cache, or with whether a cache was hit.
const cacheLabel = attribute.Key("cache")

// Labels of keys. Administrators make keys, and there can be many of them.
const (
	keyIDLabel = attribute.Key("key_id")
	roleLabel  = attribute.Key("role")
)
