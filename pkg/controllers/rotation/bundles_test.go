// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// bundlesOf has the tags that are left, by name of the resource.
type bundlesOf struct {
	place string
	left  map[string]string
	err   error
	looks atomic.Int64
}

func (b *bundlesOf) Place() string { return b.place }

func (b *bundlesOf) Left(_ context.Context, r *resource.Summary, _ *keys.Key) (string, error) {
	b.looks.Add(1)
	return b.left[r.Name], b.err
}

type resourcesOf []*resource.Summary

func (r resourcesOf) Visit(visit func(*resource.Summary)) {
	for _, summary := range r {
		visit(summary)
	}
}

func TestBundlesMoved_WaitsForEachBundleAndLooksOnce(t *testing.T) {
	ephemeral, err := keys.NewEphemeral(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old := v1alpha1.RingKeyStatus{Name: "old", ActiveUntil: &metav1.Time{Time: time.Now()}}
	if old.PublicKey, err = ephemeral.PEM(); err != nil {
		t.Fatal(err)
	}
	all := make(resourcesOf, 0, 20)
	for i := range cap(all) {
		name := fmt.Sprint("r", i)
		all = append(all, &resource.Summary{Name: name, UID: types.UID(name)})
	}
	bundles := &bundlesOf{place: "here", left: map[string]string{"r7": "registry/ns:task.r7"}}
	c := &Controller{Inputs: Inputs{Bundles: bundles, Resources: all}, moved: map[string]*moved{}}
	r := ring("default")
	expect := func(looks int64, says ...string) {
		t.Helper()
		bundles.looks.Store(0)
		err := c.bundlesMoved(t.Context(), r, &old)
		if (err != nil) != (len(says) > 0) || err != nil && !isWaiting(err) {
			t.Fatalf("got %v, want an error with %q", err, says)
		}
		for _, text := range says {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("got %v, want an error with %q", err, text)
			}
		}
		if got := bundles.looks.Load(); got > looks {
			t.Errorf("looked %d times, want at most %d times", got, looks)
		}
	}
	expect(20, `1 bundles have a signature of key "old"`, "registry/ns:task.r7", "ignoreBundles")
	expect(1, "task.r7")
	bundles.err = errors.New("connection refused")
	expect(1, "not known", "connection refused", "19 of 20")
	r.Spec.Rotation.IgnoreBundles = true
	expect(0)
	r.Spec.Rotation.IgnoreBundles = false
	bundles.err, bundles.left = nil, nil
	expect(1)
	expect(0)

	bundles.left = map[string]string{"r3": "other/ns:task.r3"}
	expect(0)
	bundles.place = "another registry"
	expect(20, "task.r3")
	bundles.place = "" // nothing is stored
	expect(0)
	bundles.place = "another registry"
	old.ActiveUntil = &metav1.Time{Time: time.Now().Add(time.Hour)} // after a rollback
	expect(20, "task.r3")
}
