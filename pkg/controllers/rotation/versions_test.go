// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"errors"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

func TestVersions_AreAskedForNowAndThen(t *testing.T) {
	clock, calls, latest, failure := clocktesting.NewFakeClock(time.Now()), 0, "1", error(nil)
	c := &Controller{versions: map[string]version{}, Inputs: Inputs{Clock: clock, LatestVersion: func(ctx context.Context, _ string) (string, error) {
		calls++
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > versionTimeout {
			t.Error("the question has no timeout of its own")
		}
		return latest, failure
	}}}
	r := ring("default", key("a", v1alpha1.KeyActive), key("gone", v1alpha1.KeyRetired))
	for _, name := range []string{"a", "gone"} {
		r.Spec.Keys = append(r.Spec.Keys, v1alpha1.RingKey{Name: name, KMS: &v1alpha1.KMSKey{Ref: "hashivault://" + name, Version: "1"}})
	}
	expect := func(wantCalls int, want string) {
		t.Helper()
		c.askVersions(t.Context(), r)
		c.setVersions(r, &r.Status)
		if got := r.Status.Keys[0].LatestVersion; got != want || calls != wantCalls || r.Status.Keys[1].LatestVersion != "" || r.Status.Keys[0].Problem != "" {
			t.Errorf("after %d calls: %+v, want version %q after %d", calls, r.Status.Keys, want, wantCalls)
		}
	}
	expect(1, "1")
	latest = "2"
	clock.Step(versionInterval - time.Second)
	expect(1, "1")
	clock.Step(time.Second)
	expect(2, "2")
	failure = errors.New("sealed")
	clock.Step(versionInterval)
	expect(3, "2")
	expect(3, "2") // a failure is not tried again at once
}
