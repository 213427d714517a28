// SPDX-License-Identifier: Apache-2.0

package admission

import v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

// Reference is the taskRef or pipelineRef of a run. A field without a value, or with
// null, is empty.
type Reference struct{ Name, Resolver string }

// ClusterResolver is the resolver through which Tekton verifies what it fetches from
// the cluster.
const ClusterResolver = "cluster"

// NeedsResolver reports whether a reference has to become one to the cluster resolver,
// because Tekton would not verify it. before is that of the stored run; nil if the run
// is created. The rules are those of config/admission/500-rewrite-taskruns.yaml, where
// the comments give the reasons.
func (after Reference) NeedsResolver(before *Reference) bool {
	switch {
	case after.Name == "":
		return false
	case before == nil:
		return after.Resolver == ""
	}
	return before.Name == "" && (after.Resolver == ClusterResolver || after.Resolver == "")
}

// ResolverParams returns the parameters with which the cluster resolver fetches a
// resource. kind is "task" or "pipeline".
func ResolverParams(kind, name, namespace string) v1.Params {
	return v1.Params{
		{Name: "kind", Value: *v1.NewStructuredValues(kind)},
		{Name: "name", Value: *v1.NewStructuredValues(name)},
		{Name: "namespace", Value: *v1.NewStructuredValues(namespace)},
	}
}
