// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// ways are how a user changes the content of a resource. Those of creating also make a
// resource that does not exist.
var (
	creating = map[string]func(e *env, user string, n named){
		"create": func(e *env, user string, n named) {
			e.check(ignoreNotFound(e.dynamicAs(user).Resource(n.gvr).Namespace(n.namespace).Delete(e.t.Context(), n.name, metav1.DeleteOptions{})))
			e.create(user, n)
		},
		"server-side apply": func(e *env, user string, n named) {
			_, err := e.dynamicAs(user).Resource(n.gvr).Namespace(n.namespace).Apply(e.t.Context(), n.name, n.object(),
				metav1.ApplyOptions{FieldManager: user[:6], Force: true})
			e.check(err)
		},
		"kubectl apply": func(e *env, user string, n named) {
			_, err := cluster.RunKubectl(e.t.Context(), n.manifest(), "apply", "--as", user, "-f", "-")
			e.check(err)
		},
	}
	changing = map[string]func(e *env, user string, n named){
		"replace": func(e *env, user string, n named) {
			obj := n.object()
			obj.SetResourceVersion(e.stored(n).GetResourceVersion())
			_, err := e.dynamicAs(user).Resource(n.gvr).Namespace(n.namespace).Update(e.t.Context(), obj, metav1.UpdateOptions{})
			e.check(err)
		},
		"merge patch": func(e *env, user string, n named) {
			e.patch(user, n, fmt.Sprintf(`{"spec":{"description":%q}}`, n.description))
		},
		"JSON patch": func(e *env, user string, n named) {
			patch := fmt.Sprintf(`[{"op":"replace","path":"/spec/description","value":%q}]`, n.description)
			_, err := e.dynamicAs(user).Resource(n.gvr).Namespace(n.namespace).Patch(e.t.Context(), n.name, types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
			e.check(err)
		},
		"kubectl edit": func(e *env, user string, n named) {
			e.t.Setenv("KUBE_EDITOR", fmt.Sprintf("sed -i 's/description: .*/description: %s/'", n.description))
			_, err := cluster.RunKubectl(e.t.Context(), "", "edit", "--as", user, "-n", n.namespace, n.gvr.Resource+"."+n.gvr.Version+"."+n.gvr.Group, n.name)
			e.check(err)
		},
	}
)

// Each way to write, with and without the verb, in each version: the one who wrote the
// present content is named, whoever wrote the content before.
func TestRequester_IdentifiesTheWriter(t *testing.T) {
	e := newEnv(t)
	e.startWebhook("record")
	ns := e.namespace()
	e.users(ns)
	for _, gvr := range versions {
		for way, write := range creating {
			t.Run(gvr.Resource+" "+gvr.Version+" "+way, func(t *testing.T) { e.sub(t).expectIdentified(ns, gvr, way, write) })
		}
		for way, write := range changing {
			t.Run(gvr.Resource+" "+gvr.Version+" "+way, func(t *testing.T) {
				e := e.sub(t)
				e.create(holder, e.named(ns, gvr, wayName(gvr, way)))
				e.expectIdentified(ns, gvr, way, write)
			})
		}
	}
	t.Run("service accounts", func(t *testing.T) {
		e := e.sub(t)
		for account, want := range map[string]bool{"applier": true, "bot": false} {
			client, name := e.accountIn(ns, account, want)
			n := e.named(ns, versionOf("tasks", "v1"), "by-"+account)
			_, err := client.Resource(n.gvr).Namespace(ns).Create(t.Context(), n.object(), metav1.CreateOptions{})
			e.check(err)
			if want {
				e.expectRequester(n, name, "")
			} else {
				e.expectRequester(n, "", name)
			}
		}
	})
	// An administrator who impersonates counts as the user: the API server decides who may
	// impersonate whom. The administrator itself has every verb.
	t.Run("administrator", func(t *testing.T) {
		e := e.sub(t)
		n := e.named(ns, versionOf("tasks", "v1"), "by-admin")
		admin, err := dynamic.NewForConfig(cluster.Admin)
		e.check(err)
		made, err := admin.Resource(n.gvr).Namespace(ns).Create(t.Context(), n.object(), metav1.CreateOptions{})
		e.check(err)
		if made.GetAnnotations()[v1alpha1.RequestedByAnnotation] == "" {
			t.Errorf("got annotations %v", made.GetAnnotations())
		}
	})
}

func wayName(gvr schema.GroupVersionResource, way string) string {
	return strings.ReplaceAll(strings.ToLower(gvr.Version+"-"+way), " ", "-")
}

// expectIdentified writes a resource as one user after another.
func (e *env) expectIdentified(namespace string, gvr schema.GroupVersionResource, way string, write func(*env, string, named)) {
	e.t.Helper()
	n := e.named(namespace, gvr, wayName(gvr, way))
	for i, user := range []string{holder, editor, editor, holder, holder, editor} {
		write(e, user, n.describedAs(fmt.Sprintf("content %d", i)))
		if user == holder {
			e.expectRequester(n, holder, "")
		} else {
			e.expectRequester(n, "", editor)
		}
	}
}

// accountIn returns a client with the token of a new service account, and its user name.
func (e *env) accountIn(namespace, account string, signs bool) (dynamic.Interface, string) {
	e.t.Helper()
	accounts := cluster.Kube.CoreV1().ServiceAccounts(namespace)
	_, err := accounts.Create(e.t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{})
	e.check(err)
	user := "system:serviceaccount:" + namespace + ":" + account
	args := []string{"create", "rolebinding", "-n", namespace, "--serviceaccount", namespace + ":" + account}
	_, err = cluster.RunKubectl(e.t.Context(), "", append(args, "edit-"+account, "--clusterrole", "tekton-aggregate-edit")...)
	e.check(err)
	if signs {
		_, err = cluster.RunKubectl(e.t.Context(), "", append(args, "sign-"+account, "--role", "signer")...)
		e.check(err)
	}
	token, err := accounts.CreateToken(e.t.Context(), account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	e.check(err)
	config := rest.AnonymousClientConfig(cluster.Admin)
	config.BearerToken = token.Status.Token
	client, err := dynamic.NewForConfig(config)
	e.check(err)
	e.eventually(soon, func() error {
		_, err := client.Resource(versionOf("tasks", "v1")).Namespace(namespace).List(e.t.Context(), metav1.ListOptions{})
		return err
	})
	return client, user
}

// The rows of the table in docs/requester.md that change no content.
func TestRequester_FollowsTheTable(t *testing.T) {
	e := startController(t)
	e.startWebhook("required")
	ns := e.namespace()
	e.users(ns)
	const forged = "forged@example.com"
	set := func(value string) string { return annotationPatch(v1alpha1.RequestedByAnnotation, value) }
	const drop = `{"metadata":{"annotations":{"trustedresources.tekton.dev/requested-by":null}}}`
	const finalizer = `{"metadata":{"finalizers":["example.com/keep"]}}`
	for _, gvr := range versions {
		if !hashed(gvr) {
			continue // each update counts as a change: see below
		}
		t.Run(gvr.Resource+" "+gvr.Version, func(t *testing.T) {
			e := e.sub(t)
			n := e.named(ns, gvr, "table")
			e.create(holder, n)
			e.waitSignature(n)
			e.expectRequester(n, holder, "") // our signature write has kept the value
			for name, row := range map[string]struct{ user, patch string }{
				"nothing of the content":  {editor, finalizer},
				"forged":                  {editor, set(forged)},
				"dropped":                 {editor, drop},
				"dropped by a holder":     {holder, drop},
				"who asked is forged":     {editor, annotationPatch(v1alpha1.NotAuthorizedAnnotation, forged)},
				"the same value again":    {editor, set(holder)},
				"approval of the content": {holder, set(forged)},
			} {
				before := signature(e.stored(n))
				e.patch(row.user, n, row.patch)
				e.expectRequester(n, holder, "")
				if signature(e.stored(n)) != before {
					t.Errorf("%s: the signature changed", name)
				}
			}
			e.waitSignature(n)
			e.patch(holder, n, `{"metadata":{"finalizers":null}}`)

			// Content that editor made stays the content of editor.
			e.patch(editor, n, `{"spec":{"description":"second"}}`)
			e.expectRequester(n, "", editor)
			for _, patch := range []string{set(holder), set(editor), `{"metadata":{"annotations":{"trustedresources.tekton.dev/not-authorized":null}}}`} {
				e.patch(editor, n, patch)
				e.expectRequester(n, "", editor)
			}
			e.patch(holder, n, `{"metadata":{"labels":{"team":"a"}}}`)
			e.expectRequester(n, holder, "")
			e.waitSignature(n)
		})
	}
	for _, gvr := range versions {
		if hashed(gvr) {
			continue
		}
		t.Run("update in "+gvr.Resource+" "+gvr.Version, func(t *testing.T) {
			e := e.sub(t)
			n := e.named(ns, gvr, "table-of-"+gvr.Version)
			e.create(holder, n)
			e.patch(editor, n, finalizer)
			e.expectRequester(n, "", editor)
			e.patch(holder, n, `{"metadata":{"finalizers":null}}`)
			e.expectRequester(n, holder, "")
		})
	}
}
