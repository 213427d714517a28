// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// Two users who may edit Tekton's resources. Only the holder has the verb sign.
const (
	holder = "holder@example.com"
	editor = "editor@example.com"
)

// startWebhook starts the webhook and sets trustedresources.requester. It returns when both
// are in force.
func (e *env) startWebhook(requester string) *harness.Webhook {
	e.t.Helper()
	webhook, err := cluster.InstallWebhook(e.t.Context())
	if webhook != nil {
		e.cleanup(func() error { return webhook.Remove(cleanupContext()) })
	}
	e.check(err)
	e.require(requester)
	return webhook
}

// require sets trustedresources.requester and waits until the API server calls the webhook
// for the resources of signed namespaces, or does not call it any more.
func (e *env) require(requester string) {
	e.t.Helper()
	e.configure(with(signAll, map[string]string{"trustedresources.requester": requester}))
	ns := e.namespace()
	e.users(ns)
	e.eventually(soon, func() error { return e.stamps(ns, holder, requester != "off") })
	if requester == "required" && e.controller != nil {
		e.waitRequired(ns)
	}
}

// waitRequired waits until the controller requires a requester: it does not sign what the
// editor writes in a namespace.
func (e *env) waitRequired(namespace string) {
	e.t.Helper()
	attempts := 0
	e.eventually(soon, func() error {
		attempts++
		probe := e.named(namespace, versionOf("tasks", "v1"), fmt.Sprintf("probe-%d", attempts))
		e.create(editor, probe)
		signed := false
		e.eventually(soon, func() error {
			signed = e.stored(probe).GetAnnotations()[trustedresources.SignatureAnnotation] != ""
			if signed || e.hasEvent(probe, v1alpha1.ReasonNotAuthorized) {
				return nil
			}
			return fmt.Errorf("%s is neither signed nor refused", probe)
		})
		if signed {
			return fmt.Errorf("%s is signed", probe)
		}
		return nil
	})
}

func (e *env) hasEvent(n named, reason string) bool {
	e.t.Helper()
	events, err := cluster.Kube.CoreV1().Events(n.namespace).List(e.t.Context(), metav1.ListOptions{
		FieldSelector: "involvedObject.name=" + n.name + ",reason=" + reason,
	})
	e.check(err)
	return len(events.Items) > 0
}

// users lets the users edit the resources of a namespace, and the holder sign them. It
// returns when the API server knows that.
func (e *env) users(namespace string) {
	e.t.Helper()
	rbac := cluster.Kube.RbacV1()
	subject := func(name string) []rbacv1.Subject {
		return []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}}
	}
	bind := func(name string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
		_, err := rbac.RoleBindings(namespace).Create(e.t.Context(), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: ref, Subjects: subjects,
		}, metav1.CreateOptions{})
		e.check(err)
	}
	_, err := rbac.Roles(namespace).Create(e.t.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "signer"},
		Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{"tekton.dev"}, Resources: []string{"tasks", "pipelines", "stepactions"}, Verbs: []string{v1alpha1.SignVerb},
		}},
	}, metav1.CreateOptions{})
	e.check(err)
	bind("editors", rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "tekton-aggregate-edit"}, append(subject(holder), subject(editor)...))
	bind("signers", rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "signer"}, subject(holder))
	e.eventually(soon, func() error {
		for _, user := range []string{holder, editor} {
			if _, err := e.dynamicAs(user).Resource(versionOf("tasks", "v1")).Namespace(namespace).List(e.t.Context(), metav1.ListOptions{}); err != nil {
				return err
			}
		}
		return nil
	})
}

// dynamicAs returns a client for all versions with the identity of a user.
func (e *env) dynamicAs(user string) dynamic.Interface {
	e.t.Helper()
	client, err := dynamic.NewForConfig(e.as(user).Admin)
	e.check(err)
	return client
}

// versions are all versions of all resources with a signature.
var versions = []schema.GroupVersionResource{
	versionOf("tasks", "v1"), versionOf("tasks", "v1beta1"),
	versionOf("pipelines", "v1"), versionOf("pipelines", "v1beta1"),
	versionOf("stepactions", "v1beta1"), versionOf("stepactions", "v1alpha1"),
}

func versionOf(resource, version string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "tekton.dev", Version: version, Resource: resource}
}

// hashed reports whether Tekton hashes this version.
func hashed(gvr schema.GroupVersionResource) bool {
	return gvr.Version == "v1" || gvr.Resource == "stepactions" && gvr.Version == "v1beta1"
}

// named is a resource that the users write.
type named struct {
	gvr             schema.GroupVersionResource
	namespace, name string
	description     string // the content
	annotations     map[string]string
}

func (e *env) named(namespace string, gvr schema.GroupVersionResource, name string) named {
	return named{gvr: gvr, namespace: namespace, name: name, description: "first"}
}

// describedAs returns the resource with another content.
func (n named) describedAs(description string) named {
	n.description = description
	return n
}

// requestedBy returns the resource with a requester in its annotation.
func (n named) requestedBy(user string) named {
	n.annotations = map[string]string{v1alpha1.RequestedByAnnotation: user}
	return n
}

func (n named) object() *unstructured.Unstructured {
	step := map[string]any{"name": "s", "image": "alpine", "script": "echo"}
	spec := map[string]any{"description": n.description}
	kind := map[string]string{"tasks": "Task", "pipelines": "Pipeline", "stepactions": "StepAction"}[n.gvr.Resource]
	switch kind {
	case "Task":
		spec["steps"] = []any{step}
	case "Pipeline":
		spec["tasks"] = []any{map[string]any{"name": "only", "taskRef": map[string]any{"name": "any"}}}
	default:
		spec["image"], spec["script"] = "alpine", "echo"
	}
	obj := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	obj.SetAPIVersion(n.gvr.GroupVersion().String())
	obj.SetKind(kind)
	obj.SetNamespace(n.namespace)
	obj.SetName(n.name)
	obj.SetAnnotations(n.annotations)
	return obj
}

func (n named) manifest() string {
	text, err := json.Marshal(n.object().Object)
	if err != nil {
		panic(err) // texts only
	}
	return string(text)
}

func (n named) String() string { return fmt.Sprintf("%s %s/%s", n.gvr.Resource, n.namespace, n.name) }

// stored returns the resource in the cluster, in the version that Tekton hashes.
func (e *env) stored(n named) *unstructured.Unstructured {
	e.t.Helper()
	version := "v1"
	if n.gvr.Resource == "stepactions" {
		version = "v1beta1"
	}
	client, err := dynamic.NewForConfig(cluster.Admin)
	e.check(err)
	obj, err := client.Resource(versionOf(n.gvr.Resource, version)).Namespace(n.namespace).Get(e.t.Context(), n.name, metav1.GetOptions{})
	e.check(err)
	return obj
}

// expectRequester requires what the annotations of a resource say.
func (e *env) expectRequester(n named, requestedBy, notAuthorized string) {
	e.t.Helper()
	found := e.stored(n).GetAnnotations()
	if found[v1alpha1.RequestedByAnnotation] != requestedBy || found[v1alpha1.NotAuthorizedAnnotation] != notAuthorized {
		e.t.Errorf("%s: requested by %q, not authorized %q; want %q and %q", n,
			found[v1alpha1.RequestedByAnnotation], found[v1alpha1.NotAuthorizedAnnotation], requestedBy, notAuthorized)
	}
}

// create creates a resource as a user.
func (e *env) create(user string, n named) {
	e.t.Helper()
	_, err := e.dynamicAs(user).Resource(n.gvr).Namespace(n.namespace).Create(e.t.Context(), n.object(), metav1.CreateOptions{})
	e.check(err)
}

// patch applies a JSON merge patch as a user.
func (e *env) patch(user string, n named, mergePatch string) {
	e.t.Helper()
	e.check(e.tryPatch(user, n, mergePatch))
}

func (e *env) tryPatch(user string, n named, mergePatch string) error {
	e.t.Helper()
	_, err := e.dynamicAs(user).Resource(n.gvr).Namespace(n.namespace).Patch(e.t.Context(), n.name, types.MergePatchType, []byte(mergePatch), metav1.PatchOptions{})
	return err
}

func annotationPatch(key, value string) string {
	return fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, key, value)
}

// waitSignature waits until Tekton's verifier accepts the signature of a resource.
func (e *env) waitSignature(n named) {
	e.t.Helper()
	kind := map[string]resource.Kind{"tasks": resource.Task, "pipelines": resource.Pipeline, "stepactions": resource.StepAction}[n.gvr.Resource]
	e.eventually(soon, func() error {
		obj, err := cluster.Resource(e.t.Context(), kind, n.namespace, n.name)
		if err != nil {
			return err
		}
		return harness.Verify(e.t.Context(), obj, e.public)
	})
}

// waitProtected waits until the API server uses the policy of config/webhook, some time after
// the policy was installed.
func (e *env) waitProtected(namespace string) {
	e.t.Helper()
	tasks := e.dynamicAs(editor).Resource(versionOf("tasks", "v1")).Namespace(namespace)
	forged := e.named(namespace, versionOf("tasks", "v1"), "forged").requestedBy(holder)
	e.eventually(soon, func() error {
		if _, err := tasks.Create(e.t.Context(), forged.object(), dryRunCreate); !isProtected(err) {
			return fmt.Errorf("the policy does not refuse a forged requester: %w", orUnlimited(err))
		}
		return nil
	})
}

// expectProtected requires that the policy of config/webhook has refused a write.
func (e *env) expectProtected(what string, err error) {
	e.t.Helper()
	if !isProtected(err) {
		e.t.Errorf("%s: got %v, want a refusal by the policy", what, err)
	}
}

func isProtected(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "requester.trustedresources.tekton.dev")
}

func (e *env) tektonAs(user string) versioned.Interface {
	e.t.Helper()
	config := rest.CopyConfig(cluster.Admin)
	config.Impersonate = rest.ImpersonationConfig{UserName: user}
	client, err := versioned.NewForConfig(config)
	e.check(err)
	return client
}
