// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

const (
	// maxPending bounds the memory of the verdicts that wait, in bytes.
	maxPending = 8 << 20
	// Sizes without their texts, with their share of the maps.
	verdictSize, entrySize, namespaceSize = 160, 1000, 300
)

// batch has the last verdict on each resource.
type batch map[resource.Kind]map[resourceID]verdict

// pending are the verdicts that wait to be written, by namespace. A namespace whose batch is
// empty was written a short time ago.
type pending struct {
	batches map[string]batch
	size    int  // estimated bytes
	full    bool // a verdict was dropped since the last write
}

func newPending() pending { return pending{batches: map[string]batch{}} }

// scheduled reports whether somebody will take the namespace.
func (p *pending) scheduled(namespace string) bool { return p.batches[namespace] != nil }

// add keeps a verdict, unless too many wait. first reports that no other was dropped before.
func (p *pending) add(namespace string, kind resource.Kind, v verdict) (dropped, first bool) {
	of := p.batches[namespace]
	size := v.size()
	if of == nil {
		size += namespaceSize
	}
	if p.size+size > maxPending {
		first, p.full = !p.full, true
		return true, first
	}
	if of == nil {
		of = batch{}
		p.batches[namespace] = of
	}
	if of[kind] == nil {
		of[kind] = map[resourceID]verdict{}
	}
	if before, found := of[kind][v.id]; found {
		size -= before.size()
	}
	of[kind][v.id] = v
	p.size += size
	return false, false
}

// take returns the verdicts of a namespace. If there are none, the namespace is not scheduled
// any more.
func (p *pending) take(namespace string) batch {
	taken := p.batches[namespace]
	for _, verdicts := range taken {
		for _, v := range verdicts {
			p.size -= v.size()
		}
	}
	switch {
	case taken == nil:
	case len(taken) == 0:
		p.size -= namespaceSize
		delete(p.batches, namespace)
	default:
		p.batches[namespace] = batch{}
		p.full = false
	}
	return taken
}

// giveBack keeps verdicts again. Newer ones stay.
func (p *pending) giveBack(namespace string, kind resource.Kind, verdicts map[resourceID]verdict) {
	for id, v := range verdicts {
		if _, newer := p.batches[namespace][kind][id]; !newer {
			p.add(namespace, kind, v)
		}
	}
}

// clear forgets the verdicts. The namespaces stay scheduled.
func (p *pending) clear() {
	for namespace := range p.batches {
		p.take(namespace)
		p.batches[namespace] = batch{}
	}
	p.size = namespaceSize * len(p.batches)
}

func (v *verdict) size() int { return verdictSize + len(v.entries)*entrySize }
