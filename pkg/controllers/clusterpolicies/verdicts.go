// SPDX-License-Identifier: Apache-2.0

package clusterpolicies

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/attestation"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// countInterval is the time between two writes of new verdicts.
const countInterval = 5 * time.Second

// Verdicts counts the verdicts that policies gave in this process, until they are in the
// status of the policies. The zero value is ready for use.
type Verdicts struct {
	mu    sync.Mutex
	count map[counted]*v1alpha1.PolicyVerdicts
}

// counted is a policy. Another policy of the same name counts on its own.
type counted struct{ name, uid string }

// Add counts the verdicts on the resources behind one run.
func (v *Verdicts) Add(records []attestation.Record, at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, record := range records {
		for _, outcome := range record.Policies {
			if outcome.Rank != nil {
				v.add(outcome, metav1.NewTime(at))
			}
		}
	}
}

func (v *Verdicts) add(o policy.Outcome, at metav1.Time) {
	key := counted{o.Policy, o.Revision.UID}
	if v.count == nil {
		v.count = map[counted]*v1alpha1.PolicyVerdicts{}
	}
	if v.count[key] == nil {
		v.count[key] = &v1alpha1.PolicyVerdicts{Since: &at}
	}
	found := v.count[key]
	switch o.Result {
	case policy.Passed:
		found.Passed++
	case policy.Failed:
		found.Failed++
		found.LastFailure = &at
	case policy.Skipped:
		found.Skipped++
	}
}

// run writes new verdicts into the status of their policies until the context ends. Each
// replica does, for the runs that it decided about.
func (v *Verdicts) run(ctx context.Context, client Client) {
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		for policy, count := range v.take() {
			if err := write(ctx, client, policy, count); err != nil {
				logging.FromContext(ctx).Warnw("Cannot count verdicts", "policy", policy.name, zap.Error(err))
				v.giveBack(policy, count)
			}
		}
	}, countInterval)
}

func (v *Verdicts) take() map[counted]*v1alpha1.PolicyVerdicts {
	v.mu.Lock()
	defer v.mu.Unlock()
	taken := v.count
	v.count = nil
	return taken
}

// giveBack keeps verdicts that could not be written for the next write.
func (v *Verdicts) giveBack(policy counted, count *v1alpha1.PolicyVerdicts) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.count == nil {
		v.count = map[counted]*v1alpha1.PolicyVerdicts{}
	}
	merged := *count
	if newer := v.count[policy]; newer != nil {
		merged = sum(*count, *newer)
	}
	v.count[policy] = &merged
}

// sum adds counts, of which b is newer.
func sum(a, b v1alpha1.PolicyVerdicts) v1alpha1.PolicyVerdicts {
	a.Passed, a.Failed, a.Skipped = a.Passed+b.Passed, a.Failed+b.Failed, a.Skipped+b.Skipped
	if a.Since == nil {
		a.Since = b.Since
	}
	if b.LastFailure != nil {
		a.LastFailure = b.LastFailure
	}
	return a
}

func write(ctx context.Context, client Client, policy counted, count *v1alpha1.PolicyVerdicts) error {
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		found, err := client.Get(ctx, policy.name, metav1.GetOptions{})
		if err != nil || string(found.UID) != policy.uid {
			return err
		}
		found.Status.Verdicts = sum(found.Status.Verdicts, *count)
		_, err = client.UpdateStatus(ctx, found, metav1.UpdateOptions{FieldManager: v1alpha1.Group})
		return err
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
