// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// fieldManager names the command in the managed fields of a KeyRing.
const fieldManager = "tkn-trust"

// errNoKeyRing means that there is no KeyRing with a name. The error lists the names.
var errNoKeyRing = errors.New("no such KeyRing")

// get returns a KeyRing.
func (t *keyTool) get(ctx context.Context, name string) (*v1alpha1.KeyRing, error) {
	ring, err := t.reader.Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil:
		return ring, nil
	case apierrors.IsNotFound(err) && !isNotServed(err):
		return nil, t.noKeyRing(ctx, name)
	}
	return nil, t.explain(err, "get", "keyrings")
}

func (t *keyTool) noKeyRing(ctx context.Context, name string) error {
	all, err := t.list(ctx)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("%w: namespace %s has no KeyRing, so the same keys sign resources and Chains' attestations; "+
			"create a KeyRing with tkn-trust key generate", errNoKeyRing, t.namespace)
	}
	names := make([]string, 0, len(all))
	for i := range all {
		names = append(names, all[i].Name)
	}
	return fmt.Errorf("%w: namespace %s has no KeyRing %q; its KeyRings are %s", errNoKeyRing, t.namespace, name, strings.Join(names, ", "))
}

// list returns all KeyRings.
func (t *keyTool) list(ctx context.Context) ([]v1alpha1.KeyRing, error) {
	all, err := t.reader.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, t.explain(err, "list", "keyrings")
	}
	return all.Items, nil
}

// conflicts are the attempts to change a KeyRing that the controller changes, too.
var conflicts = wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 7}

// change changes the spec of a KeyRing, and returns the KeyRing after that. It writes
// nothing if edit changes nothing. edit is called again if the KeyRing has changed
// meanwhile, or the API server could not answer.
func (t *keyTool) change(ctx context.Context, name string, dryRun bool, edit func(*v1alpha1.KeyRing) error) (ring *v1alpha1.KeyRing, changed bool, err error) {
	var last error
	err = wait.ExponentialBackoffWithContext(ctx, conflicts, func(ctx context.Context) (bool, error) {
		ring, changed, last = t.tryChange(ctx, name, dryRun, edit)
		if isTransient(last) {
			return false, nil
		}
		return last == nil, last
	})
	if wait.Interrupted(err) && last != nil {
		err = last
	}
	return ring, changed, err
}

func (t *keyTool) tryChange(ctx context.Context, name string, dryRun bool, edit func(*v1alpha1.KeyRing) error) (*v1alpha1.KeyRing, bool, error) {
	ring, err := t.get(ctx, name)
	if err != nil {
		return nil, false, err
	}
	before := ring.DeepCopy()
	if err := edit(ring); err != nil {
		return nil, false, err
	}
	if equality.Semantic.DeepEqual(before.Spec, ring.Spec) {
		return ring, false, nil
	}
	stored, err := t.writer.Update(ctx, ring, metav1.UpdateOptions{FieldManager: fieldManager, DryRun: dryRunOf(dryRun)})
	if err != nil {
		return nil, false, t.explain(err, "update", "keyrings")
	}
	return stored, true, nil
}

// isTransient reports that the same request can succeed a moment later.
func isTransient(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsServerTimeout(err) || apierrors.IsServiceUnavailable(err) ||
		apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err)
}

// isNotServed reports that the API server does not know the type.
func isNotServed(err error) bool {
	return apierrors.IsNotFound(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// explain says what to do about an error of the API server.
func (t *keyTool) explain(err error, verb, resource string) error {
	switch {
	case isNotServed(err):
		return fmt.Errorf("%w; the CustomResourceDefinition of KeyRings is missing: install it (config/101-keyrings.yaml)", err)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%w; the account needs the verb %q for %s in namespace %s", err, verb, resource, t.namespace)
	}
	return err
}
