// SPDX-License-Identifier: Apache-2.0

package registrytest

import (
	"net/http"
	"strings"
)

// Rule returns the fault of a request, or nil to let the request pass. n is the
// number of the request since Server.Set, starting from 1.
type Rule func(n int, r *http.Request) Fault

// Always gives every request the fault.
func Always(fault Fault) Rule {
	return func(int, *http.Request) Fault { return fault }
}

// Nth gives only the n-th request the fault.
func Nth(n int, fault Fault) Rule {
	return func(i int, _ *http.Request) Fault {
		if i == n {
			return fault
		}
		return nil
	}
}

// From gives the n-th request and all later ones the fault. Unlike Nth, it also
// fails the request that net/http repeats by itself when a connection breaks.
func From(n int, fault Fault) Rule {
	return func(i int, _ *http.Request) Fault {
		if i >= n {
			return fault
		}
		return nil
	}
}

// When gives the requests that match the fault.
func When(match func(*http.Request) bool, fault Fault) Rule {
	return func(_ int, r *http.Request) Fault {
		if match(r) {
			return fault
		}
		return nil
	}
}

// Request matches requests with this method whose path contains part.
func Request(method, part string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Method == method && strings.Contains(r.URL.Path, part) }
}
