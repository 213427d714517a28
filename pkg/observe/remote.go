// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
)

// KMSRequested means that a request to a KMS ended, or that nobody waits for its answer any
// more.
type KMSRequested struct {
	Provider, Operation string // as in keys.Request
	Took                time.Duration
	Err                 error
}

func (f KMSRequested) report() report {
	outcome := "ok"
	if f.Err != nil {
		outcome = "error"
	}
	return report{took: []measured{{kmsDuration, f.Took, []attribute.KeyValue{
		attribute.String("provider", f.Provider), attribute.String("operation", f.Operation), attribute.String("outcome", outcome),
	}}}}
}

// RegistryRequested means that a request to a registry, or to the server that issues tokens
// for a registry, ended.
type RegistryRequested struct {
	Method string // of HTTP
	Status int    // of HTTP; 0 if there was no answer
	Took   time.Duration
}

func (f RegistryRequested) report() report {
	return report{took: []measured{{registryDuration, f.Took, []attribute.KeyValue{
		attribute.String("operation", registryOperation(f.Method)), attribute.String("code", codeClass(f.Status)),
	}}}}
}

func registryOperation(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, "": // an empty method means GET
		return "read"
	case http.MethodDelete:
		return "delete"
	default:
		return "write"
	}
}

// codeClass returns the class of an HTTP status, such as "2xx".
func codeClass(status int) string {
	if status < 100 || status > 599 {
		return "error"
	}
	return fmt.Sprintf("%dxx", status/100)
}

// Cache is one of the caches that are measured.
type Cache string

// The caches.
const (
	// Verdicts are those of policies.
	Verdicts Cache = "verdicts"
	// RunKeys are the keys of policies in Secrets and KMS, which runs are verified with.
	RunKeys Cache = "run_policy_keys"
	// SigningKeys are the same, for the decision whether to sign a resource.
	SigningKeys Cache = "signing_policy_keys"
)

// CacheAsked means that something was wanted that is in a cache, or not.
type CacheAsked struct {
	Cache Cache
	Hit   bool
}

func (f CacheAsked) report() report {
	return report{count: counted{cacheRequests, []attribute.KeyValue{f.Cache.label(), attribute.String("outcome", hitOrMiss(f.Hit))}}}
}

func (c Cache) label() attribute.KeyValue { return cacheLabel.String(string(c)) }

// CacheEntries is the number of entries in a cache.
func CacheEntries(c Cache, entries int) Measurement {
	return measurement(float64(entries), cacheEntries, string(c))
}
