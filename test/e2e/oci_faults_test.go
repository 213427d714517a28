// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// With each fault of the registry, the controller signs the resource at once, reports
// that storing failed, and stores the resource after the fault has ended.
func TestStoring_RecoversFromRegistryFaults(t *testing.T) {
	e := newEnv(t)
	proxy, err := harness.StartProxy(t.Context(), e.startDistribution(harness.DistributionOptions{}).Host())
	e.check(err)
	e.cleanup(proxy.Stop)
	store := e.configureStore(proxy.Host(), "tekton,oci")
	e.controller = e.addReplica("controller")
	writes := func(r *http.Request) bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }
	manifests := func(r *http.Request) bool { return harness.EndpointOf(r) == harness.EndpointManifests }
	for i, tc := range []struct {
		name  string
		fault harness.Fault
		of    func(*http.Request) bool
		says  string
	}{
		{"writes are forbidden", harness.Answer(http.StatusForbidden, nil), writes, "403"},
		{"registry limits the rate", harness.Answer(http.StatusTooManyRequests, http.Header{"Retry-After": {"1"}}), manifests, "asks to try again in 1s"},
		{"registry has no space", harness.Answer(http.StatusInsufficientStorage, nil), writes, "507"},
		{"connection ends during uploads", harness.CutOff(), writes, "EOF"},
		{"responses have no end", harness.Endless(), func(r *http.Request) bool { return manifests(r) && r.Method == http.MethodGet }, "trailing data"},
		{"manifests are changed in transit", harness.Tamper(func(body []byte) []byte {
			return bytes.Replace(body, []byte(`"schemaVersion"`), []byte(`"SchemaVersion"`), 1)
		}), func(r *http.Request) bool { return manifests(r) && !writes(r) }, "digest"},
		{"registry loses manifests", harness.Swallow(), func(r *http.Request) bool { return manifests(r) && writes(r) }, ""},
		{"registry does not respond", harness.Hang(), func(*http.Request) bool { return true }, "timeout"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := e.sub(t)
			ns := e.namespace()
			proxy.Set(func(r *http.Request) harness.Fault {
				if tc.of(r) {
					return tc.fault
				}
				return nil
			})
			t.Cleanup(func() { proxy.Set(nil) })
			name := fmt.Sprintf("build-%d", i)
			created := e.createTask(newTask(ns, name))
			e.waitSigned(ns, name)
			e.waitEventWithin(afterFailover, created, "NotStored", tc.says)
			proxy.Set(nil)
			e.waitEventWithin(afterFailover, created, "ResourceStored")
			e.waitStored(store, created)
		})
	}
}
