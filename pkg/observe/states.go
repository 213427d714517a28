// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// state is the name of a gauge whose values are read at each scrape, without the suffix
// _seconds that Prometheus adds. A series ends when its value is not read any more.
type state string

const (
	resources         state = "trustedresources_resources"
	oldestUnsignedAge state = "trustedresources_oldest_unsigned_age"
	inventoryComplete state = "trustedresources_inventory_complete"
	leader            state = "trustedresources_leader"
	cacheEntries      state = "trustedresources_cache_entries"
)

// stateDescription describes a gauge. The unit is empty for numbers of things.
type stateDescription struct{ description, unit string }

var stateDescriptions = map[state]stateDescription{
	resources: {"Resources of the selected namespaces that this replica looks after, by namespace, kind, state of the signature, " +
		"and whether an unverified resource would be refused there. There are no series with the value 0.", ""},
	oldestUnsignedAge: {"Age of the oldest change that waits for a signature of this replica, by kind. The age begins when the process receives the change.", seconds},
	inventoryComplete: {"1 if this replica has looked at all resources of the kind since it began to look after them. Only of replicas that sign.", ""},
	leader:            {"1 if this replica signs resources of the kind, 0 if it only waits for the failure of another.", ""},
	cacheEntries:      {"Entries in caches, by cache. Entries that are not valid any more count until they are removed.", ""},
}

// Measurement is the value of one series of a gauge at one moment.
type Measurement struct {
	of     state
	labels []attribute.KeyValue
	value  float64
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
			o.ObserveFloat64(e.metrics.states[m.of], m.value, metric.WithAttributes(m.labels...))
		}
		return nil
	}, all...)
	return err
}

// Leads says whether this replica signs resources of a kind.
func Leads(kind string, leads bool) Measurement {
	return Measurement{leader, ofKind(kind), float64(number(leads))}
}

// OldestUnsigned is the age of the oldest change that waits for a signature; 0 if none does.
func OldestUnsigned(kind string, age time.Duration) Measurement {
	return Measurement{oldestUnsignedAge, ofKind(kind), age.Seconds()}
}

// InventoryComplete says whether all resources of a kind were looked at.
func InventoryComplete(kind string, complete bool) Measurement {
	return Measurement{inventoryComplete, ofKind(kind), float64(number(complete))}
}

// ResourceCount is the number of resources in one state.
func ResourceCount(namespace, kind, state string, enforced bool, count int) Measurement {
	return Measurement{resources, append(ofKind(kind), namespaceLabel.String(namespace),
		attribute.String("state", state), attribute.Bool("enforced", enforced)), float64(count)}
}

// bounded sums up the values of the last namespaces, in the order of their names, under the
// name "_other", if one gauge has more series than OpenTelemetry keeps.
func bounded(read []Measurement) []Measurement {
	byState := map[state][]Measurement{}
	for _, m := range read {
		byState[m.of] = append(byState[m.of], m)
	}
	kept := make([]Measurement, 0, min(len(read), maxSeries*len(byState)))
	for _, of := range byState {
		if len(of) <= maxSeries {
			kept = append(kept, of...)
			continue
		}
		slices.SortStableFunc(of, func(a, b Measurement) int { return cmp.Compare(a.namespace(), b.namespace()) })
		kept = append(append(kept, of[:maxSeries]...), summedUp(of[maxSeries:])...)
	}
	return kept
}

func (m Measurement) namespace() string {
	for _, label := range m.labels {
		if label.Key == namespaceLabel {
			return label.Value.AsString()
		}
	}
	return ""
}

// summedUp adds the values that differ only in the labels that come from users.
func summedUp(of []Measurement) []Measurement {
	var sums []Measurement
	at := map[attribute.Distinct]int{}
	for _, m := range of {
		m.labels = withoutNames(m.labels)
		set := attribute.NewSet(m.labels...)
		i, found := at[set.Equivalent()]
		if !found {
			at[set.Equivalent()] = len(sums)
			sums = append(sums, m)
			continue
		}
		sums[i].value += m.value
	}
	return sums
}
