// SPDX-License-Identifier: Apache-2.0

package rights

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	authorization "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// account answers questions about the rights of a service account.
type account struct {
	err error

	mu     sync.Mutex
	denied map[string]bool // by verb and resource
}

// denied returns an account that has all rights but these.
func denied(rights ...string) *account {
	a := &account{}
	a.deny(rights...)
	return a
}

func (a *account) deny(rights ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.denied = map[string]bool{}
	for _, right := range rights {
		a.denied[right] = true
	}
}

func (a *account) Create(_ context.Context, review *authorization.SelfSubjectAccessReview, _ metav1.CreateOptions) (*authorization.SelfSubjectAccessReview, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	asked := review.Spec.ResourceAttributes
	review.Status.Allowed = !a.denied[asked.Verb+" "+asked.Resource]
	return review, a.err
}

// observed keeps what a gate told its observer.
type observed struct {
	mu      sync.Mutex
	missing [][]string
	unknown int
}

func (o *observed) Missing(_ context.Context, rights []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.missing = append(o.missing, rights)
}

func (o *observed) Unknown(context.Context, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unknown++
}

// reports returns the lists of missing rights, in the order in which they came.
func (o *observed) reports() [][]string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.missing)
}

func opens(context.Context) error { return nil }

func TestGate_OpensAtOnceWithAllRights(t *testing.T) {
	var o observed
	gate := NewGate(&account{}, Needed(true, "own"), &o)
	if err := gate.Open(t.Context(), opens); err != nil || !gate.IsOpen() || gate.LacksRights() || len(o.missing) != 0 {
		t.Errorf("got %v, open: %v, reported %q", err, gate.IsOpen(), o.missing)
	}
}

func TestGate_ReportsOnceAndOpensLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o observed
		a := denied("list verificationpolicies", "watch verificationpolicies", "get resolutionrequests")
		gate := NewGate(a, Needed(true, "own"), &o)
		if err := gate.Open(t.Context(), opens); err != nil || gate.IsOpen() {
			t.Fatalf("got %v, open: %v, want a closed gate", err, gate.IsOpen())
		}
		want := []string{"list, watch verificationpolicies.tekton.dev", "get resolutionrequests.resolution.tekton.dev"}
		<-time.After(4 * askInterval)
		synctest.Wait()
		if got := o.reports(); len(got) != 1 || !slices.Equal(got[0], want) {
			t.Errorf("reported %q, want once %q", got, want)
		}
		a.deny()
		<-time.After(2 * askInterval)
		synctest.Wait()
		if got := o.reports(); !gate.IsOpen() || len(got) != 2 || len(got[1]) != 0 {
			t.Errorf("open: %v, reported %q, want an open gate and an empty list", gate.IsOpen(), got)
		}
	})
}

func TestGate_StaysClosedWhileTheAnswerIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o observed
		gate := NewGate(&account{err: errors.New("connection refused")}, Needed(true, "own"), &o)
		ctx, cancel := context.WithTimeout(t.Context(), 5*askRetry)
		defer cancel()
		if err := gate.Open(ctx, opens); err == nil || gate.IsOpen() || o.unknown == 0 || len(o.missing) != 0 {
			t.Errorf("got %v, open: %v, %d unknown answers, reported %q", err, gate.IsOpen(), o.unknown, o.missing)
		}
	})
}

func TestGate_StaysClosedIfTheWorkDidNotStart(t *testing.T) {
	failed := errors.New("context ended")
	gate := NewGate(&account{}, Needed(true, "own"), &observed{})
	if err := gate.Open(t.Context(), func(context.Context) error { return failed }); !errors.Is(err, failed) || gate.IsOpen() {
		t.Errorf("got %v, open: %v", err, gate.IsOpen())
	}
}

func TestMissing_NamesTheRightToAsk(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "selfsubjectaccessreviews"}, "", errors.New("no"))
	got, err := missing(t.Context(), &account{err: forbidden}, Needed(true, "own"))
	if err != nil || !slices.Equal(got, []string{askMissing}) {
		t.Errorf("got %q and %v", got, err)
	}
}

// The manifests grant what the controller needs.
func TestNeeded_IsGrantedByTheManifests(t *testing.T) {
	for name, files := range map[string][]string{
		"operator": {"operator/base/rbac.yaml", "operator/base/keyrings.yaml", "operator/base/gates.yaml"},
		"own":      {"201-rbac-resources.yaml", "201-rbac-runs.yaml", "202-rbac-controller.yaml", "205-rbac-gates.yaml"},
	} {
		granted := grants(t, files)
		for _, right := range slices.Concat(Needed(true, "own"), NeededByGate()) {
			for _, verb := range right.Verbs {
				if !granted[verb+" "+right.Resource.String()+right.Name] {
					t.Errorf("%s: no role grants %s %s %s", name, verb, right.Resource, right.Name)
				}
			}
		}
		if granted["list resolutionrequests.resolution.tekton.dev"] {
			t.Errorf("%s grants more than is needed", name)
		}
	}
}

func TestNeeded_HasNoRightsForAttestationsBesideAStockChains(t *testing.T) {
	if slices.ContainsFunc(Needed(false, "own"), func(r Right) bool { return r.Resource.Resource == "resolutionrequests" }) {
		t.Error("without runs, no right to read requests is needed")
	}
}

func grants(t *testing.T, files []string) map[string]bool {
	t.Helper()
	granted := map[string]bool{}
	for _, file := range files {
		content, err := fs.ReadFile(os.DirFS("../../../config"), file)
		if err != nil {
			t.Fatal(err)
		}
		for document := range bytes.SplitSeq(content, []byte("\n---\n")) {
			var role rbacv1.ClusterRole // a Role has the same rules
			if err := yaml.Unmarshal(document, &role); err != nil {
				t.Fatal(err)
			}
			if role.Kind == "ClusterRole" || role.Kind == "Role" {
				addRights(granted, role.Rules)
			}
		}
	}
	return granted
}

// addRights adds the rights on all objects of a type, or on single ones (with their names).
func addRights(granted map[string]bool, rules []rbacv1.PolicyRule) {
	for _, rule := range rules {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				right := verb + " " + schema.GroupResource{Group: rule.APIGroups[0], Resource: resource}.String()
				for _, name := range rule.ResourceNames {
					granted[right+name] = true
				}
				if len(rule.ResourceNames) == 0 {
					granted[right] = true
				}
			}
		}
	}
}
