package harness

import (
	"maps"
	"net/http"
	"regexp"
)

// Endpoint is what a request to a registry is about, as in its path.
type Endpoint string

// The endpoints of the OCI distribution specification, and all others.
const (
	EndpointManifests Endpoint = "manifests"
	EndpointUploads   Endpoint = "blobs/uploads"
	EndpointBlobs     Endpoint = "blobs"
	EndpointReferrers Endpoint = "referrers"
	EndpointTags      Endpoint = "tags"
	EndpointOther     Endpoint = ""
)

// The repository is as long as it can be: its name may have such words, too.
var endpointPath = regexp.MustCompile(`^(/v2/.+)/(manifests|blobs/uploads|blobs|referrers|tags)/[^/]*$`)

// EndpointOf finds out what a request is about.
func EndpointOf(r *http.Request) Endpoint {
	_, endpoint := splitPath(r)
	return endpoint
}

// splitPath finds the repository, as the start of a path, and the endpoint.
func splitPath(r *http.Request) (repository string, endpoint Endpoint) {
	match := endpointPath.FindStringSubmatch(r.URL.Path)
	if match == nil {
		return "", EndpointOther
	}
	return match[1], Endpoint(match[2])
}

// Call is a kind of request.
type Call struct {
	Method   string
	Endpoint Endpoint
}

// Counts are numbers of requests.
type Counts map[Call]int

// Since is what has been added to the counts of an earlier time.
func (c Counts) Since(before Counts) Counts {
	added := maps.Clone(c)
	for call, n := range before {
		if added[call] -= n; added[call] == 0 {
			delete(added, call)
		}
	}
	return added
}

// Total is the number of all requests.
func (c Counts) Total() int { return c.sum(func(Call) bool { return true }) }

// By is the number of requests with a method.
func (c Counts) By(method string) int {
	return c.sum(func(call Call) bool { return call.Method == method })
}

// At is the number of requests to an endpoint.
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
