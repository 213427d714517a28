// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"fmt"
	"strings"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
)

// pathPrefix is more than the directories before a name in the paths that Tekton
// fills in, such as /tekton/steps/step-NAME/results/NAME.
const pathPrefix = 64

// others returns the sizes for a substitution of all variables of a TaskRun that
// are no parameters: contexts, workspaces, and paths of results and steps. Tekton
// has a few notations of each.
func (s sizes) others(spec *v1.TaskSpec, taskName string, tr *v1.TaskRun) sizes {
	const contexts, perPart = 5, 6
	s = s.withOthers(spec, taskName, tr)
	s.keys, s.made, s.cost = contexts+perPart*(len(pathParts(spec))+len(tr.Spec.Workspaces)), 0, 0
	return s
}

// withOthers returns the sizes with that of the largest variable of a TaskRun that
// is no parameter.
func (s sizes) withOthers(spec *v1.TaskSpec, taskName string, tr *v1.TaskRun) sizes {
	for _, text := range []string{taskName, tr.Name, tr.Namespace, string(tr.UID)} {
		s.other = max(s.other, encodedSize(text))
	}
	for _, bound := range tr.Spec.Workspaces {
		if bound.PersistentVolumeClaim != nil {
			s.other = max(s.other, encodedSize(bound.PersistentVolumeClaim.ClaimName))
		}
	}
	step, result := 0, 0
	for _, part := range pathParts(spec) {
		switch size := encodedSize(part.text); part.of {
		case ofStep:
			step = max(step, size)
		case ofResult:
			result = max(result, size)
		case ofWorkspace:
			s.other = max(s.other, size)
		}
	}
	s.other = max(s.other, step+result+pathPrefix)
	return s
}

// checkPaths returns an error if a path that Tekton fills in may itself make a
// reference. Tekton fills in paths one after another, also in the text of paths
// that it has filled in before, so that their sizes would multiply.
func checkPaths(spec *v1.TaskSpec) error {
	for _, part := range pathParts(spec) {
		if strings.Contains(part.text, "$") || strings.HasPrefix(part.text, "(") {
			return fmt.Errorf("%w: %.80q is a part of a path, and refers to a variable", errSubstitution, part.text)
		}
	}
	return nil
}

// pathPart is a text of a spec that is a part of a path.
type pathPart struct {
	of   partKind
	text string
}

type partKind int

const (
	ofStep partKind = iota
	ofResult
	ofWorkspace
)

func pathParts(spec *v1.TaskSpec) (parts []pathPart) {
	for _, step := range spec.Steps {
		parts = append(parts, pathPart{ofStep, step.Name})
		for _, result := range step.Results {
			parts = append(parts, pathPart{ofResult, result.Name})
		}
		parts = append(parts, mountPaths(step.Workspaces)...)
	}
	for _, result := range spec.Results {
		parts = append(parts, pathPart{ofResult, result.Name})
	}
	for _, sidecar := range spec.Sidecars {
		parts = append(parts, mountPaths(sidecar.Workspaces)...)
	}
	for _, declared := range spec.Workspaces {
		parts = append(parts, pathPart{ofWorkspace, declared.GetMountPath()})
	}
	return parts
}

func mountPaths(usages []v1.WorkspaceUsage) (parts []pathPart) {
	for _, usage := range usages {
		parts = append(parts, pathPart{ofWorkspace, usage.MountPath})
	}
	return parts
}
