// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"maps"
	"net/http"
	"regexp"
)

// Endpoint is the kind of content that a request to a registry is about, as in the path.
type Endpoint string

// The endpoints of the OCI distribution specification. EndpointOther is every other path.
const (
	EndpointManifests Endpoint = "manifests"
	EndpointUploads   Endpoint = "blobs/uploads"
	EndpointBlobs     Endpoint = "blobs"
	EndpointReferrers Endpoint = "referrers"
	EndpointTags      Endpoint = "tags"
	EndpointOther     Endpoint = ""
)

// The first group is greedy, because the name of a repository may contain these words.
var endpointPath = regexp.MustCompile(`^(/v2/.+)/(manifests|blobs/uploads|blobs|referrers|tags)/[^/]*$`)

// EndpointOf returns the endpoint of a request.
func EndpointOf(r *http.Request) Endpoint {
	_, endpoint := splitPath(r)
	return endpoint
}

// splitPath returns the endpoint of a request, and the part of the path before it.
func splitPath(r *http.Request) (repository string, endpoint Endpoint) {
	match := endpointPath.FindStringSubmatch(r.URL.Path)
	if match == nil {
		return "", EndpointOther
	}
	return match[1], Endpoint(match[2])
}

// Call is a kind of request: a method and an endpoint.
type Call struct {
	Method   string
	Endpoint Endpoint
}

// Counts maps kinds of requests to numbers of requests.
type Counts map[Call]int

// Since returns the requests after an earlier call of Count.
func (c Counts) Since(before Counts) Counts {
	added := maps.Clone(c)
	for call, n := range before {
		if added[call] -= n; added[call] == 0 {
			delete(added, call)
		}
	}
	return added
}

// Total returns the number of all requests.
func (c Counts) Total() int { return c.sum(func(Call) bool { return true }) }

// By returns the number of requests with a method.
func (c Counts) By(method string) int {
	return c.sum(func(call Call) bool { return call.Method == method })
}

// At returns the number of requests to an endpoint.
func (c Counts) At(endpoint Endpoint) int {
	return c.sum(func(call Call) bool { return call.Endpoint == endpoint })
}

func (c Counts) sum(counts func(Call) bool) int {
	sum := 0
	for call, n := range c {
		if counts(call) {
			sum += n
		}
	}
	return sum
}
