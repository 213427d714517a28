// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
)

const (
	definition      = "CustomResourceDefinition"
	establishWithin = 30 * time.Second
)

// established waits until the API server has accepted a custom resource definition.
func established(ctx context.Context, client dynamic.ResourceInterface, name string) error {
	err := wait.PollUntilContextTimeout(ctx, pollInterval, establishWithin, true, func(ctx context.Context) (bool, error) {
		crd, err := client.Get(ctx, name, metav1.GetOptions{})
		return err == nil && isEstablished(crd), err
	})
	if wait.Interrupted(err) && ctx.Err() == nil {
		return fmt.Errorf("CustomResourceDefinition %s is not established after %s: look at its status.conditions", name, establishWithin)
	}
	if err != nil {
		return fmt.Errorf("wait for CustomResourceDefinition %s: %w", name, err)
	}
	return nil
}

func isEstablished(crd *unstructured.Unstructured) bool {
	// The conditions are null at first. The typed accessors return an error for null.
	value, _, _ := unstructured.NestedFieldNoCopy(crd.Object, "status", "conditions")
	conditions, _ := value.([]any)
	return slices.ContainsFunc(conditions, func(c any) bool {
		m, ok := c.(map[string]any)
		return ok && m["type"] == "Established" && m["status"] == "True"
	})
}

// served waits until the API discovery lists the kinds of the definitions.
func (a *Applier) served(ctx context.Context, definitions []*unstructured.Unstructured) error {
	var missing schema.GroupKind
	err := wait.PollUntilContextTimeout(ctx, pollInterval, establishWithin, true, func(context.Context) (bool, error) {
		a.mapper.Reset()
		for _, crd := range definitions {
			missing = definedKind(crd)
			if _, err := a.mapper.RESTMapping(missing); err != nil {
				return false, nil //nolint:nilerr // the poll tries again
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("the API server does not list %s after %s: %w", missing, establishWithin, err)
	}
	return nil
}

func definedKind(crd *unstructured.Unstructured) schema.GroupKind {
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind")
	return schema.GroupKind{Group: group, Kind: kind}
}
