// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"reflect"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// The PrometheusRule has the rules of rules.yaml, in the fields of the Prometheus operator.
func TestPrometheusRule_HasTheRules(t *testing.T) {
	var rule monitoringv1.PrometheusRule
	decode(t, "801-prometheusrule.yaml", &rule, "PrometheusRule")
	var source monitoringv1.PrometheusRuleSpec
	if err := yaml.UnmarshalStrict([]byte(read(t, "config/monitoring/rules.yaml")), &source); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(rule.Spec, source) {
		t.Error("the PrometheusRule has other rules than rules.yaml: run make generate")
	}
	if got := len(source.Groups); got != 6 {
		t.Errorf("%d groups of rules, want 6", got)
	}
}

// The ServiceMonitor selects the Services of config/ that serve metrics.
func TestServiceMonitor_SelectsTheServices(t *testing.T) {
	var monitor monitoringv1.ServiceMonitor
	decode(t, "800-servicemonitor.yaml", &monitor, "ServiceMonitor")
	for _, file := range []string{"config/400-controller.yaml", "config/webhook/400-webhook.yaml"} {
		found := false
		for _, service := range services(t, file) {
			if service.Metadata.Namespace != monitor.Namespace {
				continue
			}
			for label, value := range monitor.Spec.Selector.MatchLabels {
				if service.Metadata.Labels[label] != value {
					t.Errorf("%s: the Service has no label %s=%s", file, label, value)
				}
			}
			for _, port := range service.Spec.Ports {
				found = found || port.Name == monitor.Spec.Endpoints[0].Port
			}
		}
		if !found {
			t.Errorf("%s has no Service with the port %s", file, monitor.Spec.Endpoints[0].Port)
		}
	}
}

// service is what a ServiceMonitor needs of a Service.
type service struct {
	Kind     string
	Metadata struct {
		Namespace string
		Labels    map[string]string
	}
	Spec struct{ Ports []struct{ Name string } }
}

// services returns the Services of a file.
func services(t *testing.T, file string) (all []service) {
	t.Helper()
	for document := range strings.SplitSeq(read(t, file), "\n---\n") {
		var s service
		if err := yaml.Unmarshal([]byte(document), &s); err != nil {
			t.Fatal(err)
		}
		if s.Kind == "Service" {
			all = append(all, s)
		}
	}
	return all
}

// decode reads a manifest. Unknown fields are an error.
func decode(t *testing.T, file string, into runtime.Object, kind string) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(read(t, "config/monitoring/"+file)), into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if got := into.GetObjectKind().GroupVersionKind(); got.Kind != kind || got.GroupVersion() != monitoringv1.SchemeGroupVersion {
		t.Errorf("%s is a %v", file, got)
	}
}
