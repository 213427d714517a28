// SPDX-License-Identifier: Apache-2.0

// Package tekton reads the manifests in Tekton's own Go module for an installation without pods. The Deployments
// describe how to run Tekton's programs as local processes. All other objects are applied.
package tekton

import (
	"maps"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/apply"
)

// Module is the Go module of Tekton Pipelines.
const Module = "github.com/tektoncd/pipeline"

// Namespaces of the installation.
const (
	Namespace          = "tekton-pipelines"
	ResolversNamespace = "tekton-pipelines-resolvers"
)

const (
	webhookService = "tekton-pipelines-webhook"
	// unreleased is the placeholder for the release number in the module.
	unreleased = "devel"
)

// election are the leader election settings of the Kubernetes components. With Tekton's own settings, a controller
// takes over from a killed one only after a minute, which would slow down tests.
var election = map[string]string{"lease-duration": "15s", "renew-deadline": "10s", "retry-period": "2s"}

// Manifests are Tekton's objects, changed for a local cluster.
type Manifests struct {
	Objects   []*unstructured.Unstructured
	Workloads map[string]Workload // the key is the Go package of the program
}

// Load reads the manifests of the module in dir. The webhook will listen on webhookPort of localhost.
func Load(dir, version string, webhookPort int) (Manifests, error) {
	config := filepath.Join(dir, "config")
	objects, err := apply.Load(
		filepath.Join(config, "100-namespace"), config, filepath.Join(config, "300-crds"), filepath.Join(config, "resolvers"),
	)
	if err != nil {
		return Manifests{}, err
	}
	m := Manifests{Workloads: map[string]Workload{}}
	for _, obj := range objects {
		if obj.GetKind() != "Deployment" {
			continue
		}
		pkg, w, err := newWorkload(obj)
		if err != nil {
			return Manifests{}, err
		}
		m.Workloads[pkg] = w
	}
	m.Objects = apply.Without(objects, apply.Workloads)
	for _, obj := range m.Objects {
		if err := prepare(obj, version, webhookPort); err != nil {
			return Manifests{}, err
		}
	}
	return m, nil
}

// prepare makes the changes that publishing a release of Tekton makes, and those for a cluster without pods.
func prepare(obj *unstructured.Unstructured, version string, webhookPort int) error {
	release(obj, version)
	switch obj.GetKind() {
	case "ConfigMap":
		return prepareConfigMap(obj, version)
	case "Service":
		if obj.GetName() == webhookService {
			// The ExternalName leads the API server to the process of the webhook.
			obj.Object["spec"] = map[string]any{"type": "ExternalName", "externalName": "localhost"}
		}
	case "CustomResourceDefinition":
		return setPort(obj.Object, webhookPort, "spec", "conversion", "webhook", "clientConfig", "service")
	case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration":
		webhooks, _, err := unstructured.NestedSlice(obj.Object, "webhooks")
		if err != nil {
			return err
		}
		for _, w := range webhooks {
			if fields, ok := w.(map[string]any); ok {
				if err := setPort(fields, webhookPort, "clientConfig", "service"); err != nil {
					return err
				}
			}
		}
		return unstructured.SetNestedSlice(obj.Object, webhooks, "webhooks")
	}
	return nil
}

// release replaces the placeholder in labels by the version, like a published release.
func release(obj *unstructured.Unstructured, version string) {
	labels := obj.GetLabels()
	for key, value := range labels {
		if value == unreleased {
			labels[key] = version
		}
	}
	obj.SetLabels(labels)
}

func prepareConfigMap(obj *unstructured.Unstructured, version string) error {
	data, _, err := unstructured.NestedStringMap(obj.Object, "data")
	if err != nil {
		return err
	}
	if data == nil {
		data = map[string]string{}
	}
	switch name := obj.GetName(); {
	case name == "pipelines-info":
		data["version"] = version
	case strings.HasPrefix(name, "config-leader-election"):
		maps.Copy(data, election)
	}
	return unstructured.SetNestedStringMap(obj.Object, data, "data")
}

// setPort sets the port in a reference to the webhook's Service, if there is such a reference at the path.
func setPort(fields map[string]any, port int, path ...string) error {
	service, found, err := unstructured.NestedMap(fields, path...)
	if err != nil || !found || service["name"] != webhookService {
		return err
	}
	service["port"] = int64(port)
	return unstructured.SetNestedMap(fields, service, path...)
}
