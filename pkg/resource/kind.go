// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"strings"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Kind is the kind of a signable resource, as written in its TypeMeta.
type Kind string

// The signable kinds.
const (
	Task       Kind = "Task"
	Pipeline   Kind = "Pipeline"
	StepAction Kind = "StepAction"
)

// Kinds are all signable kinds, in the order in which they are shown.
var Kinds = []Kind{Task, Pipeline, StepAction}

// ConfigName returns the kind as written in the keys of chains-config
// (artifacts.<name>.signer) and in Tekton bundles.
func (k Kind) ConfigName() string { return strings.ToLower(string(k)) }

// GroupVersionKind returns the served version, whose JSON Tekton hashes.
func (k Kind) GroupVersionKind() schema.GroupVersionKind {
	if k == StepAction {
		return v1beta1.SchemeGroupVersion.WithKind(string(k))
	}
	return v1.SchemeGroupVersion.WithKind(string(k))
}

// GroupVersionResource returns the API resource that serves the kind.
func (k Kind) GroupVersionResource() schema.GroupVersionResource {
	return k.GroupVersionKind().GroupVersion().WithResource(k.ConfigName() + "s")
}

// KindOf returns the kind of an object, or "" if the object is not signable. Tekton
// still accepts Tasks and Pipelines of v1beta1 from resolvers.
func KindOf(object Object) Kind {
	switch object.(type) {
	case *v1.Task, *v1beta1.Task: //nolint:staticcheck // see above
		return Task
	case *v1.Pipeline, *v1beta1.Pipeline: //nolint:staticcheck // see above
		return Pipeline
	case *v1beta1.StepAction:
		return StepAction
	}
	return ""
}
