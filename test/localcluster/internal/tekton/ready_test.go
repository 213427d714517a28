// SPDX-License-Identifier: Apache-2.0

package tekton

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
)

func TestLeasesHeld_RequiresRenewalByNewProcess(t *testing.T) {
	started := time.Now()
	lease := func(name, holder string, renewed time.Time) *coordinationv1.Lease {
		return &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder, RenewTime: &metav1.MicroTime{Time: renewed}},
		}
	}
	before, after := started.Add(-time.Second), started.Add(time.Second)
	for _, tc := range []struct {
		name   string
		leases []runtime.Object
		ok     bool
	}{
		{"process holds all leases", []runtime.Object{lease("c.a", "x", after), lease("c.b", "x", after)}, true},
		{"lease of another program is old", []runtime.Object{lease("c.a", "x", after), lease("c.b", "x", after), lease("d.a", "y", before)}, true},
		{"one lease is missing", []runtime.Object{lease("c.a", "x", after)}, false},
		{"earlier process holds one lease", []runtime.Object{lease("c.a", "x", after), lease("c.b", "y", before)}, false},
		{"one lease was released", []runtime.Object{lease("c.a", "x", after), lease("c.b", "", after)}, false},
		{"one lease was never held", []runtime.Object{lease("c.a", "x", after), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c.b"}}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := LeasesHeld(t.Context(), fake.NewClientset(tc.leases...), "ns", "c.", 2, started)
			if (err == nil) != tc.ok {
				t.Errorf("error %v, want success = %t", err, tc.ok)
			}
		})
	}
}
