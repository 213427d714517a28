// SPDX-License-Identifier: Apache-2.0

package signing

import (
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// ledger remembers how the signature of each selected resource stands. It takes about 70
// bytes for each resource.
type ledger struct {
	clock clock.PassiveClock

	mu       sync.Mutex // guards the fields below
	entries  map[string]entry
	complete bool // all resources were looked at since the restart
}

// entry is the standing of one state of a resource.
type entry struct {
	resourceVersion string
	standing        decision.Standing
	waits           bool // for a signature
}

func newLedger(clock clock.PassiveClock) *ledger {
	l := &ledger{clock: clock}
	l.restart()
	return l
}

// restart forgets everything: another replica may have signed since.
func (l *ledger) restart() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries, l.complete = map[string]entry{}, false
}

// decided remembers what was decided about a resource.
func (l *ledger) decided(key string, r *resource.Summary, d decision.Decision) {
	standing, waits, selected := d.Standing(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !selected {
		delete(l.entries, key)
		return
	}
	l.entries[key] = entry{r.ResourceVersion, standing, waits}
}

// signed remembers that the state with a resourceVersion is signed.
func (l *ledger) signed(key, resourceVersion string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[key] = entry{resourceVersion: resourceVersion, standing: decision.StandingSigned}
}

func (l *ledger) forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.entries, key)
}

// count is what the metrics say about the resources of one kind.
type count struct {
	kind     resource.Kind
	enforced func(namespace string) bool
	in       map[placed]int
	oldest   time.Time // zero if no resource waits
	missing  bool      // a resource was not looked at yet
}

// placed is what the resources of one series have in common.
type placed struct {
	namespace string
	standing  decision.Standing
}

// add counts a selected resource. A state that was not looked at yet is undecided.
func (c *count) add(l *ledger, r *resource.Summary) {
	l.mu.Lock()
	found, known := l.entries[r.Key().String()]
	l.mu.Unlock()
	if found.resourceVersion != r.ResourceVersion {
		found.standing, found.waits = decision.StandingUndecided, true
	}
	c.missing = c.missing || !known
	c.in[placed{r.Namespace, found.standing}]++
	if found.waits && !r.Received.IsZero() && (c.oldest.IsZero() || r.Received.Before(c.oldest)) {
		c.oldest = r.Received
	}
}

// measurements returns the metrics, with whether the ledger was complete at least once
// since the restart.
func (c *count) measurements(l *ledger) []observe.Measurement {
	l.mu.Lock()
	l.complete = l.complete || !c.missing
	complete := l.complete
	l.mu.Unlock()
	age := time.Duration(0)
	if !c.oldest.IsZero() {
		age = l.clock.Since(c.oldest)
	}
	kind := string(c.kind)
	all := make([]observe.Measurement, 0, len(c.in)+2)
	all = append(all, observe.OldestUnsigned(kind, age), observe.InventoryComplete(kind, complete))
	for at, resources := range c.in {
		all = append(all, observe.ResourceCount(at.namespace, kind, string(at.standing), c.enforced(at.namespace), resources))
	}
	return all
}

// measure returns the metrics of the resources that this replica looks after.
func (s *Signer) measure() []observe.Measurement {
	leads := s.Leads()
	leading := observe.Leads(string(s.kind), leads)
	if !leads || !s.wanted() {
		return []observe.Measurement{leading}
	}
	selected := map[string]bool{} // by namespace
	c := count{kind: s.kind, enforced: s.enforced, in: map[placed]int{}}
	s.Visit(func(r *resource.Summary) {
		is, known := selected[r.Namespace]
		if !known {
			is = s.state.Selects(r.Namespace)
			selected[r.Namespace] = is
		}
		if is && !r.Deleting {
			c.add(s.ledger, r)
		}
	})
	return append(c.measurements(s.ledger), leading)
}
