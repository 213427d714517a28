// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// SignAll returns the configuration that signs every kind with the x509 signer.
func SignAll() map[string]string {
	data := map[string]string{}
	for _, kind := range resource.Kinds {
		data["artifacts."+kind.ConfigName()+".signer"] = "x509"
	}
	return data
}

// Configure replaces the data of the ConfigMap chains-config.
func (c *Cluster) Configure(ctx context.Context, data map[string]string) error {
	patch, err := json.Marshal([]any{map[string]any{"op": "add", "path": "/data", "value": data}})
	if err != nil {
		return err
	}
	_, err = c.Kube.CoreV1().ConfigMaps(SystemNamespace).Patch(ctx, ConfigMap, types.JSONPatchType, patch, metav1.PatchOptions{})
	return err
}

// Tekton's ConfigMap for traces.
const (
	TektonNamespace = "tekton-pipelines"
	ConfigTracing   = "config-tracing"
)

// SetConfigMap sets keys of a ConfigMap. The function restores what these keys had before.
func (c *Cluster) SetConfigMap(ctx context.Context, namespace, name string, data map[string]string) (restore func(context.Context) error, err error) {
	configMaps := c.Kube.CoreV1().ConfigMaps(namespace)
	found, err := configMaps.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	set, before := map[string]*string{}, map[string]*string{}
	for key, value := range data {
		set[key], before[key] = &value, nil
		if old, has := found.Data[key]; has {
			before[key] = &old
		}
	}
	patch := func(ctx context.Context, data map[string]*string) error {
		content, err := json.Marshal(map[string]any{"data": data})
		if err != nil {
			return err
		}
		_, err = configMaps.Patch(ctx, name, types.MergePatchType, content, metav1.PatchOptions{})
		return err
	}
	return func(ctx context.Context) error { return patch(ctx, before) }, patch(ctx, set)
}

// OptIn sets the opt-in label of a namespace, so that its resources are signed.
func (c *Cluster) OptIn(ctx context.Context, namespace string) error {
	return c.Label(ctx, namespace, "true")
}

// Label sets the opt-in label of a namespace, or removes it when value is
// empty.
func (c *Cluster) Label(ctx context.Context, namespace, value string) error {
	var label *string
	if value != "" {
		label = &value
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]*string{v1alpha1.SignLabel: label}}})
	if err != nil {
		return err
	}
	_, err = c.Kube.CoreV1().Namespaces().Patch(ctx, namespace, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}
