// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"

	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

const (
	// hostile is a user with the ClusterRole edit, which contains Tekton's aggregated role.
	hostile = "hostile-editor"
	// tektonAccount is the service account of Tekton's controller.
	tektonAccount = "system:serviceaccount:tekton-pipelines:tekton-pipelines-controller"
	// ownAccount is the service account of our controller.
	ownAccount = "system:serviceaccount:" + harness.SystemNamespace + ":" + harness.ServiceAccount
)

// as returns the cluster with the identity of a user, without any group but those
// that every user has.
func (e *env) as(user string) *harness.Cluster {
	e.t.Helper()
	config := rest.CopyConfig(cluster.Admin)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	other := *cluster
	var err error
	other.Admin = config
	other.Kube, err = kubernetes.NewForConfig(config)
	e.check(err)
	other.Tekton, err = versioned.NewForConfig(config)
	e.check(err)
	return &other
}

// grant gives rights to a user in the whole cluster until the test ends.
func (e *env) grant(user string, rules ...rbacv1.PolicyRule) {
	e.t.Helper()
	roles, bindings := cluster.Kube.RbacV1().ClusterRoles(), cluster.Kube.RbacV1().ClusterRoleBindings()
	role, err := roles.Create(e.t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}, Rules: rules}, metav1.CreateOptions{})
	e.check(err)
	e.cleanup(func() error { return roles.Delete(cleanupContext(), role.Name, metav1.DeleteOptions{}) })
	binding, err := bindings.Create(e.t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}, metav1.CreateOptions{})
	e.check(err)
	e.cleanup(func() error { return bindings.Delete(cleanupContext(), binding.Name, metav1.DeleteOptions{}) })
}

// waitMay waits until the API server answers as wanted whether a user may do something.
func (e *env) waitMay(user string, want bool, attributes authorizationv1.ResourceAttributes) {
	e.t.Helper()
	e.eventually(soon, func() error {
		review, err := cluster.Kube.AuthorizationV1().SubjectAccessReviews().Create(e.t.Context(), &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{User: user, Groups: []string{"system:authenticated"}, ResourceAttributes: &attributes},
		}, metav1.CreateOptions{})
		if err == nil && review.Status.Allowed != want {
			err = fmt.Errorf("%s may %+v: %t, want %t", user, attributes, review.Status.Allowed, want)
		}
		return err
	})
}

// hostileIn returns the cluster as the hostile editor of some namespaces.
func (e *env) hostileIn(namespaces ...string) *harness.Cluster {
	e.t.Helper()
	for _, ns := range namespaces {
		_, err := cluster.Kube.RbacV1().RoleBindings(ns).Create(e.t.Context(), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: hostile},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: hostile}},
		}, metav1.CreateOptions{})
		e.check(err)
		e.waitMay(hostile, true, authorizationv1.ResourceAttributes{Namespace: ns, Verb: "patch", Resource: "pods"})
		e.waitMay(hostile, true, authorizationv1.ResourceAttributes{Namespace: ns, Verb: "create", Group: "tekton.dev", Resource: "taskruns"})
	}
	return e.as(hostile)
}

// enforced creates a namespace in which nothing runs unverified.
func (e *env) enforced() string {
	e.t.Helper()
	return e.namespaceLabelled(map[string]string{v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce})
}

// mayPatchEphemeral is a right that the ClusterRole edit does not contain.
var mayPatchEphemeral = authorizationv1.ResourceAttributes{Namespace: "default", Verb: "patch", Resource: "pods", Subresource: "ephemeralcontainers"}

func mayEverything(namespace string) authorizationv1.ResourceAttributes {
	return authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "anything", Group: "example.dev", Resource: "everything"}
}
