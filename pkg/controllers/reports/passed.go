// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"maps"
	"slices"
	"time"
)

const (
	// maxPassed bounds the resources of one kind and namespace that are known to have passed.
	maxPassed = 5000
	// maxPassedText bounds their encoding. Most need 16 bytes each.
	maxPassedText = 128 << 10
)

// passes are the resources that passed, so that each is counted once.
type passes map[resourceID]passed

// passed is when a resource passed last, and how many policies.
type passed struct {
	day, policies int64 // days since 1970
}

func dayOf(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }

// decodePasses reads the text that encode made. What is not valid, or too old, is left out:
// somebody else may have changed the annotation.
func decodePasses(text string, now time.Time) passes {
	all := passes{}
	if len(text) > maxPassedText {
		return all
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return all
	}
	for len(data) > len(resourceID{}) {
		id := resourceID(data[:len(resourceID{})])
		data = data[len(id):]
		day, n := binary.Varint(data)
		policies, m := binary.Varint(data[max(n, 0):])
		if n <= 0 || m <= 0 {
			return all
		}
		data = data[n+m:]
		if age := dayOf(now) - day; age >= -1 && age <= retentionDays && policies > 0 && policies <= maxPolicies {
			all[id] = passed{day, policies}
		}
	}
	return all
}

// encode returns the text for the annotation: base64 of the ID, the day and the number of policies
// of each resource, the last two as in binary.AppendVarint. The text is always the same for the same resources.
func (p passes) encode() string {
	data := make([]byte, 0, 12*len(p))
	for _, id := range p.sorted() {
		data = append(data, id[:]...)
		data = binary.AppendVarint(data, p[id].day)
		data = binary.AppendVarint(data, p[id].policies)
	}
	return base64.StdEncoding.EncodeToString(data)
}

// sorted returns the resources that passed first at the beginning.
func (p passes) sorted() []resourceID {
	return slices.SortedFunc(maps.Keys(p), func(a, b resourceID) int { return cmp.Or(cmp.Compare(p[a].day, p[b].day), a.compare(b)) })
}

// limit forgets the resources that passed first, if there are too many.
func (p passes) limit() {
	if len(p) <= maxPassed {
		return
	}
	for _, id := range p.sorted()[:len(p)-maxPassed] {
		delete(p, id)
	}
}

// count returns how many policies were passed.
func (p passes) count() (n int) {
	for _, one := range p {
		n += int(one.policies)
	}
	return n
}
