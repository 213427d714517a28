// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// looked returns what four policies say of the keys "sha256:old", "sha256:new" and, if
// asked, others. y trusts a key, n does not, and ? has a key that cannot be read. m may
// trust a key that can make no signature.
func looked(answers map[string]string) *look {
	l := &look{trusts: map[string][]answer{}, mayTrust: map[string][]bool{}}
	for _, name := range []string{"p", "q", "r", "s"} {
		l.policies = append(l.policies, v1alpha1.PolicyReference{Namespace: "ns", Policy: name})
	}
	for name, text := range answers {
		if strings.Contains(text, "m") {
			for _, c := range text {
				l.mayTrust["sha256:"+name] = append(l.mayTrust["sha256:"+name], c == 'm')
			}
			continue
		}
		for _, c := range text {
			l.trusts["sha256:"+name] = append(l.trusts["sha256:"+name], map[rune]answer{'y': yes, 'n': no, '?': unknown}[c])
		}
	}
	return l
}

func TestTrusted_SaysOnlyWhatIsKnown(t *testing.T) {
	at := func(seconds int64) *metav1.Time { return &metav1.Time{Time: time.Unix(seconds, 0)} }
	rotating := []v1alpha1.RingKeyStatus{key("old", v1alpha1.KeyActive), key("new", v1alpha1.KeyPending)}
	for name, tc := range map[string]struct {
		answers        map[string]string
		keys           []v1alpha1.RingKeyStatus
		active, target string
		accept         string
		want           metav1.ConditionStatus
		says           string
	}{
		"all":              {map[string]string{"old": "yynn", "new": "yyyn"}, rotating, "old", "new", "", metav1.ConditionTrue, `2 of 2 policies that trust another key trust key "new"`},
		"one lacks":        {map[string]string{"old": "yynn", "new": "ynyn"}, rotating, "old", "new", "", metav1.ConditionFalse, `1 of 2 policies that trust another key trust key "new"; not ready: ns/q`},
		"accepted":         {map[string]string{"old": "yynn", "new": "ynyn"}, rotating, "old", "new", "q", metav1.ConditionTrue, "1 of 2 policies that trust another key trust key \"new\"; 1 accepted unready: ns/q"},
		"another accepted": {map[string]string{"old": "yynn", "new": "ynyn"}, rotating, "old", "new", "p", metav1.ConditionFalse, "ns/q"},
		"may trust the old": {
			map[string]string{"old": "?nnn", "new": "nnnn"}, rotating, "old", "new", "", metav1.ConditionFalse, "ns/p",
		},
		"may trust the new": {
			map[string]string{"old": "ynnn", "new": "?nnn"}, rotating, "old", "new", "", metav1.ConditionFalse, "ns/p",
		},
		"old makes no signature, all ready": {
			map[string]string{"old": "mmnn", "new": "yynn"}, rotating, "old", "new", "", metav1.ConditionTrue, "2 of 2",
		},
		"old makes no signature, one lacks": {
			map[string]string{"old": "mmnn", "new": "ynyy"}, rotating, "old", "new", "", metav1.ConditionFalse, "not ready: ns/q",
		},
		"nothing is known of old": {
			map[string]string{"new": "yyyy"},
			[]v1alpha1.RingKeyStatus{{Name: "old", State: v1alpha1.KeyActive}, key("new", v1alpha1.KeyPending)},
			"old", "new", "", metav1.ConditionUnknown, "public half is not known: old",
		},
		"target makes no signature": {map[string]string{"old": "yyyy"}, rotating, "old", "new", "", metav1.ConditionUnknown, `key "new" makes no signature`},
		"no target":                 {map[string]string{"old": "yyyy"}, rotating, "old", "", "", metav1.ConditionUnknown, "no key is to sign"},
		"the other is revoked": {
			map[string]string{"new": "yyyy"},
			[]v1alpha1.RingKeyStatus{{Name: "old", State: v1alpha1.KeyRevoked, KeyID: "sha256:old", ActiveUntil: at(5)}, key("new", v1alpha1.KeyActive)},
			"new", "new", "", metav1.ConditionUnknown, "is revoked",
		},
		"a key before the other is revoked": {
			map[string]string{"old": "yynn", "new": "yynn"},
			[]v1alpha1.RingKeyStatus{
				{Name: "oldest", State: v1alpha1.KeyRevoked, KeyID: "sha256:oldest", ActiveUntil: at(5)},
				{Name: "old", State: v1alpha1.KeyRetiring, KeyID: "sha256:old", ActiveUntil: at(9)}, key("new", v1alpha1.KeyActive),
			},
			"new", "new", "", metav1.ConditionTrue, "2 of 2",
		},
		"a policy after the activation": {
			map[string]string{"old": "yynn", "new": "ynnn"},
			[]v1alpha1.RingKeyStatus{key("old", v1alpha1.KeyRetired), key("new", v1alpha1.KeyActive)},
			"new", "new", "", metav1.ConditionFalse, "ns/q",
		},
		"a standby does not count": {
			map[string]string{"old": "ynnn", "new": "ynnn", "standby": "nyyy"}, append(rotating, key("standby", v1alpha1.KeyPending)),
			"old", "new", "", metav1.ConditionTrue, "1 of 1",
		},
		"after a restore all keys count": {
			map[string]string{"old": "ynnn", "new": "ynnn"},
			[]v1alpha1.RingKeyStatus{key("old", v1alpha1.KeyPending), key("new", v1alpha1.KeyPending)},
			"", "new", "", metav1.ConditionTrue, "1 of 1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := ring("default", tc.keys...)
			r.Status.Active, r.Status.Target = tc.active, tc.target
			r.Spec.Rotation.AcceptUnready = []v1alpha1.PolicyReference{{Namespace: "ns", Policy: tc.accept}}
			got := looked(tc.answers).trusted(r, &r.Status, nil)
			if got.Type != v1alpha1.KeyRingTrusted || got.Status != tc.want || !strings.Contains(got.Message, tc.says) {
				t.Errorf("got %s: %s, want %s: %s", got.Status, got.Message, tc.want, tc.says)
			}
		})
	}
}

// The status lists some policies, and counts all.
func TestRecord_CountsPolicies(t *testing.T) {
	r := ring("default", key("old", v1alpha1.KeyActive), key("new", v1alpha1.KeyPending), key("none", v1alpha1.KeyPending))
	r.Status.Active, r.Status.Target = "old", "new"
	l := looked(nil)
	l.policies = nil
	for range maxUnready + 7 {
		l.policies = append(l.policies, v1alpha1.PolicyReference{Namespace: "ns", Policy: "p"})
		l.trusts["sha256:old"] = append(l.trusts["sha256:old"], yes)
		l.trusts["sha256:new"] = append(l.trusts["sha256:new"], no)
	}
	l.record(r, &r.Status, nil)
	before, next, none := r.Status.Keys[0], r.Status.Keys[1], r.Status.Keys[2]
	if *before.Policies != maxUnready+7 || before.Unready != 0 || *next.Policies != 0 || next.Unready != maxUnready+7 || len(next.UnreadyPolicies) != maxUnready {
		t.Errorf("got %+v and %+v", before, next)
	}
	if none.Policies != nil {
		t.Errorf("%d policies trust a key that nobody asked about, want that this is not known", *none.Policies)
	}
}

func TestSeen_BelongsToTheTarget(t *testing.T) {
	r := ring("default", key("old", v1alpha1.KeyActive), key("new", v1alpha1.KeyPending))
	r.Status.Active, r.Status.Target = "old", "new"
	expect := func(want metav1.ConditionStatus, says string) {
		t.Helper()
		got := r.Status.Conditions[0]
		if got.Type != v1alpha1.KeyRingSeen || got.Status != want || !strings.Contains(got.Message, says) {
			t.Errorf("got %+v, want %s: %s", got, want, says)
		}
	}
	next := func(target string) {
		status := *r.Status.DeepCopy()
		status.Target = target
		keepSeen(r, &status)
		r.Status = status
	}
	next("new")
	expect(metav1.ConditionUnknown, "no canary")
	setCondition(r, &r.Status, seenAfter("new", time.Second, errors.New("no answer")))
	next("new")
	expect(metav1.ConditionFalse, "no answer")
	setCondition(r, &r.Status, seenAfter("new", time.Second, nil))
	next("new")
	expect(metav1.ConditionTrue, "after 1s")
	next("old") // a rollback
	expect(metav1.ConditionUnknown, `key "old"`)
	next("")
	expect(metav1.ConditionUnknown, "no key is to sign")
}
