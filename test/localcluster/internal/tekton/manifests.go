// Package tekton turns the manifests in Tekton's own Go module into an installation whose components are
// local processes: everything but the Deployments is applied, and each Deployment says how to run one.
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
	// unreleased is what the module has in the place of the release number.
	unreleased = "devel"
)

// election is how fast a controller takes over from one that was killed. Tekton's own default of a minute
// would make every test with a killed controller take a minute; these are the values of the Kubernetes
// components.
var election = map[string]string{"lease-duration": "15s", "renew-deadline": "10s", "retry-period": "2s"}

// Manifests are Tekton's objects, prepared for a local cluster.
type Manifests struct {
	Objects   []*unstructured.Unstructured
	Workloads map[string]Workload // by the Go package of the program
}

// Load reads the manifests of the module in dir. Its webhook will listen on webhookPort of localhost.
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

// prepare makes the changes that a release of Tekton, or a life without pods, brings with it.
func prepare(obj *unstructured.Unstructured, version string, webhookPort int) error {
	release(obj, version)
	switch obj.GetKind() {
	case "ConfigMap":
		return prepareConfigMap(obj, version)
	case "Service":
		if obj.GetName() == webhookService {
			// The API server follows an ExternalName to where the webhook really listens.
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

// release replaces the placeholder in labels by the version, as publishing a release does.
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

// setPort sets the port of a reference to the webhook's Service, if there is one at the path.
func setPort(fields map[string]any, port int, path ...string) error {
	service, found, err := unstructured.NestedMap(fields, path...)
	if err != nil || !found || service["name"] != webhookService {
		return err
	}
	service["port"] = int64(port)
	return unstructured.SetNestedMap(fields, service, path...)
}
