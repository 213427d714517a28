// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"slices"
	"testing"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// After an upgrade of Tekton, a resource is stored again under its new checksum. The
// bundle for the older Tekton stays under the old one.
func TestPut_StoresAResourceOnceForEachDialect(t *testing.T) {
	f := newFixture(t)
	task := newTask("build", "make")
	stored := map[tekton.Dialect]PutResult{}
	for _, dialect := range []tekton.Dialect{tekton.NullTimestamps, tekton.Newest} {
		for _, uploaded := range []bool{true, false} {
			result, err := f.store.Put(t.Context(), task, nil, f.key, dialect)
			if err != nil || result.Uploaded != uploaded {
				t.Fatalf("%s: got %+v and %v, want uploaded: %v", dialect, result, err, uploaded)
			}
			stored[dialect] = result
		}
	}
	for dialect, result := range stored {
		found, err := f.store.Find(t.Context(), IDOf(task), must(resource.Checksum(t.Context(), task, dialect)), f.ring)
		if err != nil || found.Reference != result.Reference || !slices.Contains(found.Resources[0].Dialects(), dialect) {
			t.Errorf("%s: found %+v and %v, want %s", dialect, found, err, result.Reference)
		}
		for _, expected := range tekton.Dialects {
			err := found.CheckDialect(expected)
			same := (dialect == tekton.NullTimestamps) == (expected == tekton.NullTimestamps) // a Task has one checksum in the others
			if (err == nil) != same || err != nil && !errors.Is(err, ErrDialect) {
				t.Errorf("bundle for %s, checked for %s: got %v", dialect, expected, err)
			}
		}
	}
	newest, err := f.store.Find(t.Context(), IDOf(task), nil, f.ring)
	if err != nil || newest.Reference != stored[tekton.Newest].Reference {
		t.Errorf("the newest state is %+v and %v, want %s", newest, err, stored[tekton.Newest].Reference)
	}
}
