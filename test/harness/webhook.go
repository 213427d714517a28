// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Names in the manifests of config/webhook.
const (
	WebhookAccount       = "trusted-resources-webhook"
	WebhookCertificate   = "trusted-resources-webhook-certs"
	WebhookConfiguration = "webhook.trustedresources.tekton.dev"
)

// PartWebhook is the name of our webhook as a part of the cluster.
const PartWebhook = "webhook"

// Webhook is our webhook, which runs with the service account and RBAC of config/webhook.
type Webhook struct {
	// MetricsURL serves Prometheus metrics.
	MetricsURL string

	cluster *Cluster
}

// InstallWebhook applies config/webhook and runs the webhook as a process. The Service
// leads to the process, as that of Tekton's webhook does. It returns when the API server
// calls the webhook. A webhook that is returned with an error runs, too.
func (c *Cluster) InstallWebhook(ctx context.Context, environment ...string) (*Webhook, error) {
	ports, err := freePorts(ctx, 4)
	if err != nil {
		return nil, err
	}
	port, health, metrics, profiling := ports[0], ports[1], ports[2], ports[3]
	manifests, err := webhookManifests(port)
	if err != nil {
		return nil, err
	}
	if _, err := c.RunKubectl(ctx, manifests, "apply", "--server-side", "--force-conflicts", "-f", "-"); err != nil {
		return nil, err
	}
	kubeconfig, err := c.WriteKubeconfigOf(ctx, SystemNamespace, WebhookAccount)
	if err != nil {
		return nil, err
	}
	add := []string{"add", PartWebhook, "--ready-url", fmt.Sprintf("http://127.0.0.1:%d/readiness", health)}
	for _, variable := range append([]string{
		"SYSTEM_NAMESPACE=" + SystemNamespace,
		"POD_NAME=" + PartWebhook,
		"CONFIG_OBSERVABILITY_NAME=" + ConfigObservability,
		"CONFIG_LEADERELECTION_NAME=tekton-chains-config-leader-election",
		"METRICS_DOMAIN=tekton.dev/chains",
		"METRICS_PROMETHEUS_HOST=127.0.0.1",
		"METRICS_PROMETHEUS_PORT=" + strconv.Itoa(metrics),
		"PROFILING_PORT=" + strconv.Itoa(profiling),
		"WEBHOOK_PORT=" + strconv.Itoa(port),
		"KUBERNETES_MIN_VERSION=v0.0.0", // the API server is built without a version
	}, environment...) {
		add = append(add, "--env", variable)
	}
	add = append(add, "--", c.Webhook, "--kubeconfig", kubeconfig, "--health-port", strconv.Itoa(health))
	if _, err := c.localcluster(ctx, add...); err != nil {
		return nil, err
	}
	return &Webhook{cluster: c, MetricsURL: fmt.Sprintf("http://127.0.0.1:%d/metrics", metrics)}, c.waitAdmission(ctx, func(a admission) bool {
		return a.taskResolver == "cluster" && a.pipelineResolver == "cluster" && a.held // the guards are policies
	})
}

// Remove ends the webhook and deletes what config/webhook has.
func (w *Webhook) Remove(ctx context.Context) error {
	_, err := w.cluster.RunKubectl(ctx, "", "delete", "--ignore-not-found", "-f", webhookDirectory())
	// After SIGTERM, the webhook would answer for 45 seconds.
	return errors.Join(err, w.Kill(ctx), w.cluster.Control(ctx, "remove", PartWebhook), w.releaseLeases(ctx))
}

// releaseLeases deletes the leases of a killed webhook, for which the next one would wait.
func (w *Webhook) releaseLeases(ctx context.Context) error {
	leases := w.cluster.Kube.CoordinationV1().Leases(SystemNamespace)
	found, err := leases.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, lease := range found.Items {
		if strings.HasPrefix(lease.Name, WebhookAccount) {
			err = errors.Join(err, leases.Delete(ctx, lease.Name, metav1.DeleteOptions{}))
		}
	}
	return err
}

// Kill ends the webhook with SIGKILL.
func (w *Webhook) Kill(ctx context.Context) error { return w.cluster.Control(ctx, "kill", PartWebhook) }

// Start starts the webhook again after Kill.
func (w *Webhook) Start(ctx context.Context) error {
	return w.cluster.Control(ctx, "start", PartWebhook)
}

// RenewCertificate empties the Secret, so that the webhook makes another certificate with
// another certificate authority. That happens by itself a day before the certificate
// expires.
func (w *Webhook) RenewCertificate(ctx context.Context) error {
	secrets := w.cluster.Kube.CoreV1().Secrets(SystemNamespace)
	secret, err := secrets.Get(ctx, WebhookCertificate, metav1.GetOptions{})
	if err != nil {
		return err
	}
	secret.Data = nil
	_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	return err
}

func webhookDirectory() string { return filepath.Join(Root(), "config", "webhook") }

// webhookManifests returns the manifests of config/webhook for a webhook that listens on a
// port of this machine.
func webhookManifests(port int) (string, error) {
	files, err := filepath.Glob(filepath.Join(webhookDirectory(), "*.yaml"))
	if err != nil {
		return "", err
	}
	var manifests []string
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		for document := range strings.SplitSeq(string(content), "\n---\n") {
			var obj unstructured.Unstructured
			if err := yaml.Unmarshal([]byte(document), &obj.Object); err != nil {
				return "", fmt.Errorf("%s: %w", file, err)
			}
			if obj.GetKind() == "Deployment" {
				continue // no node runs its Pods
			}
			if err := onLoopback(&obj, int64(port)); err != nil {
				return "", fmt.Errorf("%s: %w", file, err)
			}
			text, err := yaml.Marshal(obj.Object)
			if err != nil {
				return "", err
			}
			manifests = append(manifests, string(text))
		}
	}
	return strings.Join(manifests, "---\n"), nil
}

// onLoopback makes a Service, and what refers to it, lead to a port of this machine.
func onLoopback(obj *unstructured.Unstructured, port int64) error {
	switch obj.GetKind() {
	case "Service":
		obj.Object["spec"] = map[string]any{"type": "ExternalName", "externalName": "localhost"}
	case "MutatingWebhookConfiguration":
		webhooks, _, err := unstructured.NestedSlice(obj.Object, "webhooks")
		if err != nil {
			return err
		}
		for _, webhook := range webhooks {
			fields, ok := webhook.(map[string]any)
			if !ok {
				return fmt.Errorf("a webhook is a %T, expected an object", webhook)
			}
			if err := unstructured.SetNestedField(fields, port, "clientConfig", "service", "port"); err != nil {
				return err
			}
		}
		return unstructured.SetNestedSlice(obj.Object, webhooks, "webhooks")
	}
	return nil
}
