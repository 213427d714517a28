// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"
	"testing"
	"time"
)

// More namespaces than OpenTelemetry keeps make no series without labels, and each resource
// is counted.
func TestReaders_BoundSeries(t *testing.T) {
	const namespaces = 5000
	var r readers
	for _, kind := range []string{"Task", "Pipeline"} {
		r.all = append(r.all, func() (all []Measurement) {
			all = append(all, OldestUnsigned(kind, time.Second))
			for i := range namespaces {
				all = append(all, ResourceCount(fmt.Sprint("ns-", i), kind, "signed", i%2 == 0, 3))
			}
			return all
		})
	}
	series, others, sum := 0, 0, 0.0
	for _, m := range r.read() {
		if m.of != resources {
			continue
		}
		series++
		sum += m.value
		if m.namespace() == other {
			others++
		}
	}
	if want := maxSeries + 4; series != want || others != 4 || sum != 2*3*namespaces {
		t.Errorf("got %d series, %d of them of other namespaces, for %v resources, want %d, 4, %d", series, others, sum, want, 2*3*namespaces)
	}
	r = readers{all: []func() []Measurement{func() []Measurement { return []Measurement{ResourceCount("a", "Task", "signed", false, 1)} }}}
	if got := r.read(); len(got) != 1 || got[0].namespace() != "a" {
		t.Errorf("got %+v", got)
	}
}
