// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	"golang.org/x/sync/errgroup"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// hostile is a tenant with the rights of the ClusterRole "edit" in three namespaces of
// its own, and with the right to write VerificationPolicies there.
type hostile struct {
	number int
	// open has resources that are signed and policies that are many. hanging has a
	// policy whose KMS does not answer. unsigned is not opted in.
	open, hanging, unsigned string

	tekton  versioned.Interface
	options options
	kms     *harness.Silent

	mu   sync.Mutex
	done map[string]*actionCount
}

// actionCount counts what the hostile tenants did under one name.
type actionCount struct {
	Name string `json:"name"`
	// Count is the number of actions, and Failed the number of those whose requests
	// the API server refused or did not answer.
	Count  int `json:"count"`
	Failed int `json:"failed"`
	// LastError is the error of the last action that failed.
	LastError string `json:"lastError,omitempty"`
}

// action is something that a hostile tenant does again and again. n counts from 0.
type action struct {
	name  string
	every time.Duration
	do    func(ctx context.Context, n int) error
}

func (b *bench) newHostile(ctx context.Context, number int, o options, kms *harness.Silent) (*hostile, error) {
	h := &hostile{number: number, options: o, kms: kms, done: map[string]*actionCount{}}
	user := fmt.Sprintf("soak-hostile-%d", number)
	for _, ns := range []struct {
		name   *string
		suffix string
		labels map[string]string
	}{{&h.open, "open", optedIn}, {&h.hanging, "hanging", optedIn}, {&h.unsigned, "unsigned", nil}} {
		var err error
		if *ns.name, err = b.tenantNamespace(ctx, user, user+"-"+ns.suffix, ns.labels); err != nil {
			return nil, err
		}
	}
	var err error
	if h.tekton, err = versioned.NewForConfig(b.as(user)); err != nil {
		return nil, err
	}
	return h, h.prepare(ctx)
}

// tenantNamespace creates a namespace in which a user has the ClusterRole "edit", and
// may write VerificationPolicies.
func (b *bench) tenantNamespace(ctx context.Context, user, name string, labels map[string]string) (string, error) {
	create := metav1.CreateOptions{}
	_, err := b.cluster.Kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
	}, create)
	if err != nil {
		return "", err
	}
	rbac := b.cluster.Kube.RbacV1()
	_, err = rbac.Roles(name).Create(ctx, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "policies"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"tekton.dev"}, Resources: []string{"verificationpolicies"}, Verbs: []string{"*"}}},
	}, create)
	if err != nil {
		return "", err
	}
	for role, kind := range map[string]string{"edit": "ClusterRole", "policies": "Role"} {
		_, err := rbac.RoleBindings(name).Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: role},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
		}, create)
		if err != nil {
			return "", err
		}
	}
	return name, b.waitAllowed(ctx, user, name)
}

// waitAllowed waits until the API server uses the new bindings of a user.
func (b *bench) waitAllowed(ctx context.Context, user, namespace string) error {
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		for _, resource := range []string{"tasks", "verificationpolicies"} {
			answer, err := b.cluster.Kube.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
				Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: namespace, Verb: "create", Group: "tekton.dev", Resource: resource,
				}},
			}, metav1.CreateOptions{})
			if err != nil || !answer.Status.Allowed {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("waiting until %s may create resources in %s: %w", user, namespace, err)
	}
	return nil
}

// run does all actions at once until the context ends. An action that takes longer
// than its period is not done twice at the same time.
func (h *hostile) run(ctx context.Context) error {
	group := new(errgroup.Group)
	for _, a := range h.actions() {
		group.Go(func() error {
			for n := 0; waitFor(ctx, h.pause(a, n)); n++ {
				h.record(ctx, a.name, a.do(ctx, n))
			}
			return nil
		})
	}
	return group.Wait()
}

// pause returns the time before the n-th action. The tenants begin one after the
// other, so that their bursts do not meet.
func (h *hostile) pause(a action, n int) time.Duration {
	every := time.Duration(float64(a.every) * h.options.pace)
	if n == 0 {
		return every * time.Duration(h.number) / hostileNumber
	}
	return every
}

// record counts an action, unless the end of the soak interrupted it.
func (h *hostile) record(ctx context.Context, name string, err error) {
	if ctx.Err() != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.done[name]
	if a == nil {
		a = &actionCount{Name: name}
		h.done[name] = a
	}
	a.Count++
	if err != nil {
		a.Failed++
		a.LastError = err.Error()
	}
}

// sum adds up the actions of all hostile tenants, in the order of the first one.
func sum(tenants []*hostile) []actionCount {
	kinds := tenants[0].actions()
	all := make([]actionCount, 0, len(kinds))
	for _, a := range kinds {
		total := actionCount{Name: a.name}
		for _, tenant := range tenants {
			tenant.mu.Lock()
			if done := tenant.done[a.name]; done != nil {
				total.Count += done.Count
				total.Failed += done.Failed
				if done.LastError != "" {
					total.LastError = done.LastError
				}
			}
			tenant.mu.Unlock()
		}
		all = append(all, total)
	}
	return all
}
