// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

func TestDecide_RequiresARequester(t *testing.T) {
	s := newSigner(t)
	for name, tc := range map[string]struct {
		mode, annotation string
		unsafe           error
		want             Reason
		err              error
	}{
		"off":                 {"off", "", nil, Unsigned, nil},
		"record":              {"record", "", nil, Unsigned, nil},
		"record, not allowed": {"record", v1alpha1.NotAuthorizedAnnotation, nil, Unsigned, nil},
		"required":            {"required", v1alpha1.RequestedByAnnotation, nil, Unsigned, nil},
		"required, nobody":    {"required", "", nil, NotAuthorized, ErrNotAuthorized},
		"required, refused":   {"required", v1alpha1.NotAuthorizedAnnotation, nil, NotAuthorized, ErrNotAuthorized},
		"required, not safe":  {"required", v1alpha1.RequestedByAnnotation, errors.New("the account may sign"), RequesterUnsafe, ErrRequesterUnsafe},
		"record, not safe":    {"record", v1alpha1.RequestedByAnnotation, errors.New("the account may sign"), Unsigned, nil},
	} {
		t.Run(name, func(t *testing.T) {
			settings := maps.Clone(allSigners)
			settings["trustedresources.requester"] = tc.mode
			snap := s.snapshot(noAuthorities)
			snap.Config, snap.RequesterUnsafe = configure(t, settings), tc.unsafe
			obj := task("t")
			if tc.annotation != "" {
				obj.Annotations = map[string]string{tc.annotation: "eve"}
			}
			d := Decide(t.Context(), snap, summarize(t, obj))
			if d.Reason != tc.want || !errors.Is(d.Err, tc.err) || (d.Action == Sign) != (tc.err == nil) {
				t.Errorf("got %+v, want %s", d, tc.want)
			}
			if named := d.Err != nil && strings.Contains(d.Err.Error(), `"eve"`); named != (tc.annotation == v1alpha1.NotAuthorizedAnnotation && tc.err != nil) {
				t.Errorf("the error names who asked: %v (%v)", named, d.Err)
			}
		})
	}
}

// A requester is asked for what would be signed. A signature that exists, ours or that
// of an authority, is left as it is.
func TestDecide_LeavesSignaturesWithoutARequester(t *testing.T) {
	s := newSigner(t)
	obj := task("t")
	s.sign(obj)
	settings := maps.Clone(allSigners)
	settings["trustedresources.requester"] = "required"
	snap := s.snapshot(noAuthorities)
	snap.Config = configure(t, settings)
	if d := Decide(t.Context(), snap, summarize(t, obj)); d.Action != Leave || d.Reason != SignedByActiveKey {
		t.Errorf("our signature: got %+v, want Leave", d)
	}
	other := newSigner(t)
	snap.Keys = other.ring()
	snap.Authorities = authoritiesFunc(func([]byte, []byte) (bool, error) { return true, nil })
	if d := Decide(context.Background(), snap, summarize(t, obj)); d.Action != Leave || d.Reason != SignedByAuthority {
		t.Errorf("signature of an authority: got %+v, want Leave", d)
	}
	snap.Authorities = noAuthorities
	if d := Decide(t.Context(), snap, summarize(t, obj)); d.Reason != NotAuthorized || d.Overwrites {
		t.Errorf("signature of nobody: got %+v, want NotAuthorized", d)
	}
}
