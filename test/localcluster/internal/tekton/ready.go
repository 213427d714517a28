// SPDX-License-Identifier: Apache-2.0

package tekton

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

// LeasesHeld returns nil if at least n leases with the prefix were renewed after the given start time of their
// process. Tekton's controllers reconcile as soon as they hold their leases.
func LeasesHeld(ctx context.Context, client kubernetes.Interface, namespace, prefix string, n int, started time.Time) error {
	leases, err := client.CoordinationV1().Leases(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	held := 0
	for _, lease := range leases.Items {
		if !strings.HasPrefix(lease.Name, prefix) {
			continue
		}
		holder, renewed := lease.Spec.HolderIdentity, lease.Spec.RenewTime
		if holder == nil || *holder == "" || renewed == nil || renewed.Time.Before(started) {
			return fmt.Errorf("the process does not hold Lease %s/%s yet", namespace, lease.Name)
		}
		held++
	}
	if held < n {
		return fmt.Errorf("the process holds %d leases %s/%s*, want %d", held, namespace, prefix, n)
	}
	return nil
}

// ConversionReady returns nil if the webhook has written its certificate into all CustomResourceDefinitions whose
// objects it converts.
func ConversionReady(ctx context.Context, client apiextensions.Interface) error {
	crds, err := client.ApiextensionsV1().CustomResourceDefinitions().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, crd := range crds.Items {
		c := crd.Spec.Conversion
		if c == nil || c.Strategy != apiextensionsv1.WebhookConverter || c.Webhook.ClientConfig.Service == nil ||
			c.Webhook.ClientConfig.Service.Name != webhookService {
			continue
		}
		if len(c.Webhook.ClientConfig.CABundle) == 0 {
			return fmt.Errorf("the webhook has not written its certificate into CustomResourceDefinition %s yet", crd.Name)
		}
	}
	return nil
}

// AdmissionReady returns nil if a valid Task can be created and an invalid Task cannot. This proves that the API
// server calls the admission webhooks. Both requests are dry runs with an API version that is not the stored one, so
// they test the conversion, too.
func AdmissionReady(ctx context.Context, client dynamic.Interface) error {
	step := map[string]any{"name": "probe", "image": "localcluster.invalid/probe", "command": []any{"true"}}
	if err := dryRunTask(ctx, client, step); err != nil {
		return fmt.Errorf("create a Task (dry run): %w", err)
	}
	if err := dryRunTask(ctx, client); err == nil {
		return errors.New("a Task without steps is accepted: the admission webhook is not registered yet")
	}
	return nil
}

func dryRunTask(ctx context.Context, client dynamic.Interface, steps ...any) error {
	task := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "tekton.dev/v1beta1", "kind": "Task",
		"metadata": map[string]any{"name": "localcluster-probe"},
		"spec":     map[string]any{"steps": steps},
	}}
	tasks := client.Resource(schema.GroupVersionResource{Group: "tekton.dev", Version: "v1beta1", Resource: "tasks"})
	_, err := tasks.Namespace(metav1.NamespaceDefault).Create(ctx, task, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}
