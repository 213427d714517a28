// SPDX-License-Identifier: Apache-2.0

package tekton

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/apply"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/build"
)

const webhookPort = 4711

// load reads the manifests of the Tekton release that the module requires.
func load(t *testing.T) (Manifests, string) {
	t.Helper()
	module, err := build.FindModule()
	if err != nil {
		t.Fatal(err)
	}
	deps, err := build.Dependencies(t.Context(), module, Module)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Load(deps[0].Dir, deps[0].Version, webhookPort)
	if err != nil {
		t.Fatal(err)
	}
	return m, deps[0].Version
}

func (m Manifests) find(t *testing.T, kind, name string) *unstructured.Unstructured {
	t.Helper()
	i := slices.IndexFunc(m.Objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == kind && o.GetName() == name })
	if i < 0 {
		t.Fatalf("the manifests have no %s %s", kind, name)
	}
	return m.Objects[i]
}

func field(t *testing.T, o *unstructured.Unstructured, path ...string) any {
	t.Helper()
	value, _, err := unstructured.NestedFieldNoCopy(o.Object, path...)
	if err != nil {
		t.Fatalf("%s: %v", apply.Describe(o), err)
	}
	return value
}

func TestLoad_AdaptsObjectsToClusterWithoutPods(t *testing.T) {
	m, version := load(t)
	for _, o := range m.Objects {
		if slices.Contains(apply.Workloads, o.GetKind()) {
			t.Errorf("%s needs a kubelet", apply.Describe(o))
		}
		for key, value := range o.GetLabels() {
			if value == unreleased {
				t.Errorf("%s has the label %s=%s of an unreleased version", apply.Describe(o), key, value)
			}
		}
	}
	if got := field(t, m.find(t, "ConfigMap", "pipelines-info"), "data", "version"); got != version {
		t.Errorf("pipelines-info has version %v, want %s", got, version)
	}
	if got := field(t, m.find(t, "ConfigMap", "config-leader-election-controller"), "data", "lease-duration"); got != "15s" {
		t.Errorf("got lease-duration %v, want 15s", got)
	}
	if got := field(t, m.find(t, "Service", webhookService), "spec", "externalName"); got != "localhost" {
		t.Errorf("the webhook's Service has externalName %v, want localhost", got)
	}
	if got := field(t, m.find(t, "Service", "tekton-pipelines-controller"), "spec", "externalName"); got != nil {
		t.Errorf("another Service has externalName %v, want none", got)
	}
}

func TestLoad_SetsWebhookPortInEachReference(t *testing.T) {
	m, _ := load(t)
	references := 0
	check := func(o *unstructured.Unstructured, service any) {
		s, ok := service.(map[string]any)
		if !ok || s["name"] != webhookService {
			return
		}
		references++
		if s["port"] != int64(webhookPort) {
			t.Errorf("%s has port %v for the webhook, want %d", apply.Describe(o), s["port"], webhookPort)
		}
	}
	for _, o := range m.Objects {
		switch o.GetKind() {
		case "CustomResourceDefinition":
			check(o, field(t, o, "spec", "conversion", "webhook", "clientConfig", "service"))
		case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration":
			webhooks, _ := field(t, o, "webhooks").([]any)
			for _, w := range webhooks {
				check(o, field(t, &unstructured.Unstructured{Object: w.(map[string]any)}, "clientConfig", "service"))
			}
		}
	}
	if references < 9 { // six definitions, three configurations
		t.Errorf("found %d references to the webhook, want at least 9", references)
	}
}

func TestLoad_ReadsWorkloadOfEachProgram(t *testing.T) {
	m, _ := load(t)
	for _, tc := range []struct{ program, account, namespace, env string }{
		{"controller", "tekton-pipelines-controller", Namespace, "CONFIG_LEADERELECTION_NAME=config-leader-election-controller"},
		{"webhook", "tekton-pipelines-webhook", Namespace, "WEBHOOK_SECRET_NAME=webhook-certs"},
		{"resolvers", "tekton-pipelines-resolvers", ResolversNamespace, "CONFIG_LEADERELECTION_NAME=config-leader-election-resolvers"},
	} {
		w, ok := m.Workloads[Module+"/cmd/"+tc.program]
		if !ok {
			t.Errorf("no Deployment runs %s", tc.program)
			continue
		}
		if w.ServiceAccount != tc.account || w.Namespace != tc.namespace {
			t.Errorf("%s runs as %s/%s, want %s/%s", tc.program, w.Namespace, w.ServiceAccount, tc.namespace, tc.account)
		}
		for _, want := range []string{tc.env, "SYSTEM_NAMESPACE=" + tc.namespace} {
			if !slices.Contains(w.Env, want) {
				t.Errorf("%s lacks %s in %q", tc.program, want, w.Env)
			}
		}
		for _, value := range slices.Concat(w.Args, w.Env) {
			if strings.HasPrefix(value, koPrefix) || strings.Contains(value, "/etc/config-") {
				t.Errorf("%s gets %q, which exists only in a pod", tc.program, value)
			}
		}
	}
}

func TestNewWorkload_RejectsUnsupportedContainers(t *testing.T) {
	for _, tc := range []struct{ name, containers, want string }{
		{"two containers", "[{name: a}, {name: b}]", "2 containers"},
		{"variable from a Secret", "[{name: a, env: [{name: KEY, valueFrom: {secretKeyRef: {name: s, key: k}}}]}]", "KEY"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			objects, err := apply.Decode([]byte("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {spec: {containers: " + tc.containers + "}}}\n"))
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := newWorkload(objects[0]); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}
