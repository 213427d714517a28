// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// state is the name of a gauge whose values are read at each scrape, without the suffix
// _seconds that Prometheus adds. A series ends when its value is not read any more.
type state string

const (
	resources           state = "trustedresources_resources"
	oldestUnsignedAge   state = "trustedresources_oldest_unsigned_age"
	inventoryComplete   state = "trustedresources_inventory_complete"
	leader              state = "trustedresources_leader"
	keyInfo             state = "trustedresources_key_info"
	keyResources        state = "trustedresources_key_resources"
	keyActiveSince      state = "trustedresources_key_active_since_timestamp"
	signerRequired      state = "trustedresources_signer_required"
	certificateNotAfter state = "trustedresources_certificate_not_after_timestamp"
	policyProblems      state = "trustedresources_policy_problems"
	cacheEntries        state = "trustedresources_cache_entries"
)

// stateDescription describes a gauge. The unit is empty for numbers of things.
type stateDescription struct {
	description, unit string
	labels            []attribute.Key
}

var stateDescriptions = map[state]stateDescription{
	resources: {"Resources of the selected namespaces that this replica looks after, by namespace, kind, state of the signature, " +
		"and whether an unverified resource would be refused there. There are no series with the value 0.",
		"", []attribute.Key{namespaceLabel, kindLabel, "state", "enforced"}},
	oldestUnsignedAge: {"Age of the oldest change that waits for a signature of this replica, by kind. The age begins when the process receives the change.",
		seconds, []attribute.Key{kindLabel}},
	inventoryComplete: {"1 if this replica has looked at all resources of the kind since it began to look after them. Only of replicas that sign.",
		"", []attribute.Key{kindLabel}},
	keyInfo: {"1 for each key that the controller knows, by ID, type of the signer (empty for a key that signs nothing), and role.",
		"", []attribute.Key{keyIDLabel, "signer", roleLabel}},
	keyResources: {"Resources with a signature of a key of a KeyRing, by ID and role of the key, as the status of the KeyRing counts them.",
		"", []attribute.Key{keyIDLabel, roleLabel}},
	keyActiveSince: {"When the active key of a KeyRing began to sign, in seconds since 1970, by ID.",
		seconds, []attribute.Key{keyIDLabel}},
	signerRequired: {"1 for each type of signer that the configuration names for a kind.",
		"", []attribute.Key{"signer"}},
	policyProblems: {"1 for each problem of a VerificationPolicy that makes it fail whatever it is used for, by namespace, policy and problem.",
		"", []attribute.Key{namespaceLabel, policyLabel, "problem"}},
	certificateNotAfter: {"When the first certificate of a use expires, in seconds since 1970: of the webhook, of authorities for registries, of authorities for the KMS.",
		seconds, []attribute.Key{"use"}},
	leader: {"1 if this replica signs resources of the kind, 0 if it only waits for the failure of another.",
		"", []attribute.Key{kindLabel}},
	cacheEntries: {"Entries in caches, by cache. Entries that are not valid any more count until they are removed.",
		"", []attribute.Key{cacheLabel}},
}

// Measurement is the value of one series of a gauge at one moment.
type Measurement struct {
	series
	value float64
}

// series names one series of a gauge.
type series struct {
	of state
	// values are those of the labels, in the order of the description.
	values [maxLabels]string
}

const maxLabels = 4

func measurement(value float64, of state, values ...string) Measurement {
	m := Measurement{series: series{of: of}, value: value}
	copy(m.values[:], values)
	return m
}

// readers are the functions that are called at each scrape.
type readers struct {
	mu  sync.Mutex
	all []func() []Measurement
}

// Measure calls read at each scrape, from now on.
func (e *Emitter) Measure(read func() []Measurement) {
	e.readers.mu.Lock()
	defer e.readers.mu.Unlock()
	e.readers.all = append(e.readers.all, read)
}

func (r *readers) read() (all []Measurement) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, read := range r.all {
		all = append(all, read()...)
	}
	return bounded(all)
}

// observeStates registers the function that is called at each scrape.
func (e *Emitter) observeStates() error {
	all := make([]metric.Observable, 0, len(e.metrics.states))
	for _, instrument := range e.metrics.states {
		all = append(all, instrument)
	}
	_, err := e.metrics.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, m := range e.readers.read() {
			o.ObserveFloat64(e.metrics.states[m.of], m.value, metric.WithAttributes(m.attributes()...))
		}
		return nil
	}, all...)
	return err
}

func (s series) attributes() []attribute.KeyValue {
	labels := stateDescriptions[s.of].labels
	all := make([]attribute.KeyValue, len(labels))
	for i, label := range labels {
		all[i] = label.String(s.values[i])
	}
	return all
}

// Leads says whether this replica signs resources of a kind.
func Leads(kind string, leads bool) Measurement {
	return measurement(float64(number(leads)), leader, kind)
}

// OldestUnsigned is the age of the oldest change that waits for a signature; 0 if none does.
func OldestUnsigned(kind string, age time.Duration) Measurement {
	return measurement(age.Seconds(), oldestUnsignedAge, kind)
}

// InventoryComplete says whether all resources of a kind were looked at.
func InventoryComplete(kind string, complete bool) Measurement {
	return measurement(float64(number(complete)), inventoryComplete, kind)
}

// ResourceCount is the number of resources in one state.
func ResourceCount(namespace, kind, state string, enforced bool, count int) Measurement {
	return measurement(float64(count), resources, namespace, kind, state, strconv.FormatBool(enforced))
}

// PolicyProblem says that a VerificationPolicy cannot be used.
func PolicyProblem(namespace, policy, problem string) Measurement {
	return measurement(1, policyProblems, namespace, policy, problem)
}

// bounded sums up the values of the last namespaces, in the order of their names, under the
// name "_other", if one gauge has more series than OpenTelemetry keeps.
func bounded(read []Measurement) []Measurement {
	named := map[state]map[string]int{} // the number of series of each namespace
	for _, m := range read {
		if named[m.of] == nil {
			named[m.of] = map[string]int{}
		}
		named[m.of][m.namespace()]++
	}
	kept := map[state]map[string]bool{}
	for of, namespaces := range named {
		kept[of] = firstOf(namespaces)
	}
	sums := make(map[series]float64, len(read))
	for _, m := range read {
		if !kept[m.of][m.namespace()] {
			m.series = m.withoutNames()
		}
		sums[m.series] += m.value
	}
	all := make([]Measurement, 0, len(sums))
	for of, value := range sums {
		all = append(all, Measurement{of, value})
	}
	return all
}

// firstOf returns the first namespaces that have maxSeries series together.
func firstOf(namespaces map[string]int) map[string]bool {
	first, all := make(map[string]bool, len(namespaces)), 0
	for _, name := range slices.Sorted(maps.Keys(namespaces)) {
		if all += namespaces[name]; all > maxSeries {
			break
		}
		first[name] = true
	}
	return first
}

func (s series) namespace() string {
	if i := slices.Index(stateDescriptions[s.of].labels, namespaceLabel); i >= 0 {
		return s.values[i]
	}
	return ""
}

// withoutNames returns the series with the value "_other" for the labels that come from users.
func (s series) withoutNames() series {
	for i, label := range stateDescriptions[s.of].labels {
		if isName(label) {
			s.values[i] = other
		}
	}
	return s
}
