// SPDX-License-Identifier: Apache-2.0

package rights

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
)

// installed are policies of config/webhook; nil are missing ones.
type installed struct {
	policy  *registrationv1.ValidatingAdmissionPolicy
	binding *registrationv1.ValidatingAdmissionPolicyBinding
}

var errMissing = errors.New("not found")

func (i installed) Policy(context.Context, string) (*registrationv1.ValidatingAdmissionPolicy, error) {
	if i.policy == nil {
		return nil, errMissing
	}
	return i.policy, nil
}

func (i installed) Binding(context.Context, string) (*registrationv1.ValidatingAdmissionPolicyBinding, error) {
	if i.binding == nil {
		return nil, errMissing
	}
	return i.binding, nil
}

func bound(change func(*registrationv1.ValidatingAdmissionPolicy, *registrationv1.ValidatingAdmissionPolicyBinding)) installed {
	i := installed{
		policy: &registrationv1.ValidatingAdmissionPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: RequesterPolicy},
			Spec:       registrationv1.ValidatingAdmissionPolicySpec{Validations: []registrationv1.Validation{{Expression: "false"}}},
		},
		binding: &registrationv1.ValidatingAdmissionPolicyBinding{
			Spec: registrationv1.ValidatingAdmissionPolicyBindingSpec{
				PolicyName: RequesterPolicy, ValidationActions: []registrationv1.ValidationAction{registrationv1.Audit, registrationv1.Deny},
			},
		},
	}
	change(i.policy, i.binding)
	return i
}

func TestRequester_IsReliedUponOnlyIfNobodyCanForge(t *testing.T) {
	type (
		policy  = registrationv1.ValidatingAdmissionPolicy
		binding = registrationv1.ValidatingAdmissionPolicyBinding
	)
	lacksSign := denied("sign tasks", "sign pipelines", "sign stepactions")
	ignore := registrationv1.Ignore
	for name, tc := range map[string]struct {
		account  *account
		policies installed
		want     string // empty: nothing is wrong
	}{
		"all is well":              {lacksSign, bound(func(*policy, *binding) {}), ""},
		"may sign":                 {&account{}, bound(func(*policy, *binding) {}), "verb sign on tasks.tekton.dev"},
		"may sign one kind":        {denied("sign tasks", "sign pipelines"), bound(func(*policy, *binding) {}), "stepactions"},
		"no answer":                {&account{err: errors.New("away")}, bound(func(*policy, *binding) {}), "away"},
		"no policy":                {lacksSign, installed{}, "apply config/webhook"},
		"no binding":               {lacksSign, installed{policy: bound(func(*policy, *binding) {}).policy}, "ValidatingAdmissionPolicyBinding"},
		"policy fails open":        {lacksSign, bound(func(p *policy, _ *binding) { p.Spec.FailurePolicy = &ignore }), "does not deny"},
		"policy says nothing":      {lacksSign, bound(func(p *policy, _ *binding) { p.Spec.Validations = nil }), "does not deny"},
		"binding of another":       {lacksSign, bound(func(_ *policy, b *binding) { b.Spec.PolicyName = "other" }), "does not deny"},
		"binding that only audits": {lacksSign, bound(func(_ *policy, b *binding) { b.Spec.ValidationActions = b.Spec.ValidationActions[:1] }), "does not deny"},
		"binding of some namespaces": {lacksSign, bound(func(_ *policy, b *binding) {
			b.Spec.MatchResources = &registrationv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{}}
		}), "does not deny"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Requester{Reviews: tc.account, Policies: tc.policies}.ask(t.Context())
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestRequester_AsksWhenItIsWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wanted atomic.Bool
		found := make(chan error, 10)
		a := denied("sign tasks", "sign pipelines", "sign stepactions")
		Requester{
			Reviews: a, Policies: bound(func(*registrationv1.ValidatingAdmissionPolicy, *registrationv1.ValidatingAdmissionPolicyBinding) {}),
			Wanted: wanted.Load, Found: func(_ context.Context, err error) { found <- err }, Clock: clock.RealClock{},
		}.Run(t.Context())
		pass := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
		}
		pass(time.Minute)
		if len(found) != 0 {
			t.Errorf("the setting is off: found %v", <-found)
		}
		wanted.Store(true)
		pass(2 * wantedInterval)
		if len(found) != 1 {
			t.Fatalf("the setting is on: found %d times", len(found))
		}
		if err := <-found; err != nil {
			t.Errorf("the setting is on: found %v", err)
		}
		a.deny()
		pass(2 * requesterInterval)
		if len(found) != 1 {
			t.Fatalf("the account got the right: found %d times", len(found))
		}
		if err := <-found; err == nil {
			t.Error("the account got the right: found no error")
		}
	})
}
