// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"testing"

	"github.com/trusted-resources/chains-extension/pkg/store/oci"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// The comparison is fair only if both methods store the same: oci.Store finds and
// verifies the bundles of either method.
func TestLibraryMethods_StoreTheSame(t *testing.T) {
	methods, err := libraryMethods(t.Context(), t.TempDir(), 1)
	check(t, err)
	samples, err := newSamples(t.Context(), 3, 2)
	check(t, err)
	if len(samples.initial) != 2 || len(samples.following) != 3 {
		t.Fatalf("got %d initial and %d following samples, want 2 and 3", len(samples.initial), len(samples.following))
	}
	for _, method := range methods {
		t.Run(method.name, func(t *testing.T) {
			registry, err := harness.StartRegistry(t.Context())
			check(t, err)
			t.Cleanup(func() { _ = registry.Stop() })
			storer, err := method.open(t.Context(), registry.Host()+"/bench", samples)
			check(t, err)
			finder, err := methods[0].open(t.Context(), registry.Host()+"/bench", samples)
			check(t, err)
			find := finder.(retriever).find
			for _, s := range samples.all() {
				if err := find(t.Context(), s); !errors.Is(err, oci.ErrNotFound) {
					t.Errorf("%s is found before it is stored: %v", s.file(), err)
				}
				check(t, storer.store(t.Context(), s))
				check(t, find(t.Context(), s))
			}
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRateOf_ShowsMedianAndRange(t *testing.T) {
	for _, tc := range []struct {
		rounds []float64
		want   string
	}{
		{nil, ""},
		{[]float64{3.14}, "3.1 (3.1 to 3.1)"},
		{[]float64{300, 100, 200}, "200 (100 to 300)"},
		{[]float64{4, 1, 3, 2}, "2.0 (1.0 to 4.0)"},
	} {
		if got := rateOf(tc.rounds).String(); got != tc.want {
			t.Errorf("%v: got %q, want %q", tc.rounds, got, tc.want)
		}
	}
}

func TestRequestsOf_DividesByResources(t *testing.T) {
	counts := harness.Counts{{Method: "GET", Endpoint: harness.EndpointManifests}: 3, {Method: "GET", Endpoint: harness.EndpointOther}: 1}
	got := requestsOf("store", counts, 2)
	if got.PerResource != 2 || len(got.ByCall) != 2 || got.ByCall["GET manifests"] != 1.5 || got.ByCall["GET /v2/"] != 0.5 {
		t.Errorf("got %+v", got)
	}
}
