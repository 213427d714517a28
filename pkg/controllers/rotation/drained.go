// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/pager"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

const pageSize = 500

// defaultQuietPeriod is that of a ring that names none.
const defaultQuietPeriod = 7 * 24 * time.Hour

// drained returns what still needs a key: signatures, bundles, runs, or the quiet period.
func (c *Controller) drained(ctx context.Context, ring *v1alpha1.KeyRing, old *v1alpha1.RingKeyStatus) error {
	now := c.Clock.Now()
	if old.ActiveUntil == nil {
		return nil // it never signed
	}
	since := old.ActiveUntil.Time
	if end := since.Add(settled); now.Before(end) {
		return blocked{fmt.Sprintf("key %q may make signatures until %s", old.Name, end.Format(time.RFC3339))}
	}
	if old.Signed > 0 {
		return blocked{fmt.Sprintf("%d resources have a signature of key %q", old.Signed, old.Name)}
	}
	if err := c.bundlesMoved(ctx, ring, old); err != nil {
		return err
	}
	quiet := defaultQuietPeriod
	if ring.Spec.Rotation.QuietPeriod != nil {
		quiet = ring.Spec.Rotation.QuietPeriod.Duration
	}
	used := since
	if old.LastVerified != nil && old.LastVerified.After(used) {
		used = old.LastVerified.Time
	}
	if end := used.Add(quiet); now.Before(end) {
		return blocked{fmt.Sprintf("the quiet period ends at %s, if key %q verifies no run until then", end.Format(time.RFC3339), old.Name)}
	}
	// These read runs and resources from the API server, so they come last.
	open, err := c.openRuns(ctx, ring.Name, since)
	if err != nil {
		return err
	}
	if old.OpenRuns = int64(len(open)); len(open) > 0 {
		return blocked{fmt.Sprintf("%d runs began before %s and are not done and attested: %s", len(open), since.Format(time.RFC3339), listRuns(open))}
	}
	return c.unsigned(ctx, old)
}

func ringOf(status []v1alpha1.RingKeyStatus) *keys.Ring {
	var known []*keys.Key
	for _, key := range status {
		if parsed, err := keys.FromPEM(key.PublicKey); err == nil {
			known = append(known, parsed)
		}
	}
	return keys.NewRing(nil, nil, known, nil)
}

// unsigned returns nil if no resource at the API server has a signature of the key. The
// informers may be behind the API server.
func (c *Controller) unsigned(ctx context.Context, old *v1alpha1.RingKeyStatus) error {
	ring := ringOf([]v1alpha1.RingKeyStatus{*old})
	visit := func(item runtime.Object) error {
		object, ok := item.(resource.Object)
		if !ok {
			return fmt.Errorf("a list of resources has a %T", item)
		}
		summary, err := resource.Summarize(ctx, object)
		if err != nil {
			return err
		}
		if decision.Signer(ring, summary) != nil {
			return blocked{fmt.Sprintf("%s %s/%s has a signature of key %q", summary.Kind, summary.Namespace, summary.Name, old.Name)}
		}
		return nil
	}
	for _, list := range []pager.ListPageFunc{
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return c.Tekton.TektonV1().Tasks(metav1.NamespaceAll).List(ctx, o)
		},
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return c.Tekton.TektonV1().Pipelines(metav1.NamespaceAll).List(ctx, o)
		},
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return c.Tekton.TektonV1beta1().StepActions(metav1.NamespaceAll).List(ctx, o)
		},
	} {
		if err := eachItem(ctx, list, visit); err != nil {
			return err
		}
	}
	return nil
}

func eachItem(ctx context.Context, list pager.ListPageFunc, visit func(runtime.Object) error) error {
	pages := pager.New(list)
	pages.PageSize = pageSize
	return pages.EachListItem(ctx, metav1.ListOptions{}, visit)
}
