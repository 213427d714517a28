// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// needsNetwork names the examples whose StepActions come from the network.
var needsNetwork = map[string]bool{"v1/taskruns/beta/stepaction-git-resolver.yaml": true}

// example holds the resources in one file of Tekton's own examples, as the API server
// serves them.
type example struct {
	file        string
	tasks       []*v1.Task
	pipelines   []*v1.Pipeline
	stepActions []resource.Object
	params      v1.Params // of the runs in the file
}

// examples returns the examples in the pipeline module of this build, without those
// that need the network.
func examples(t testing.TB) []example {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/tektoncd/pipeline").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(strings.TrimSpace(string(dir)), "examples")
	var all []example
	if err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		e := example{}
		if e.file, err = filepath.Rel(root, path); err == nil {
			err = e.read(t.Context(), path)
		}
		if !needsNetwork[e.file] {
			all = append(all, e)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func (e *example) read(ctx context.Context, path string) error {
	content, err := os.ReadFile(path) //nolint:gosec // a file of a module
	if err != nil {
		return err
	}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	for {
		var document runtime.RawExtension
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		object, err := runtime.Decode(scheme.Codecs.UniversalDeserializer(), document.Raw)
		if err == nil { // other APIs are skipped
			e.add(ctx, object)
		}
	}
}

// add adds a resource, or the spec in a run as if it were a resource: most examples
// are runs with a spec.
func (e *example) add(ctx context.Context, object runtime.Object) {
	switch object := object.(type) {
	case *v1.TaskRun:
		e.params = append(e.params, object.Spec.Params...)
		if object.Spec.TaskSpec != nil {
			e.add(ctx, &v1.Task{ObjectMeta: metav1.ObjectMeta{Name: "of-run"}, Spec: *object.Spec.TaskSpec})
		}
	case *v1.PipelineRun:
		e.params = append(e.params, object.Spec.Params...)
		if object.Spec.PipelineSpec != nil {
			e.add(ctx, &v1.Pipeline{ObjectMeta: metav1.ObjectMeta{Name: "of-run"}, Spec: *object.Spec.PipelineSpec})
		}
	case *v1alpha1.StepAction: // is served as v1beta1
		served := &v1beta1.StepAction{}
		if err := object.ConvertTo(ctx, served); err == nil {
			e.add(ctx, served)
		}
	case resource.Object:
		object.SetNamespace(namespace)
		object.SetDefaults(ctx)
		switch object := object.(type) {
		case *v1.Task:
			e.tasks = append(e.tasks, object)
		case *v1.Pipeline:
			e.pipelines = append(e.pipelines, object)
		default:
			e.stepActions = append(e.stepActions, object)
		}
	}
}
