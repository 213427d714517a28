// SPDX-License-Identifier: Apache-2.0

package tektonreleases

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Example is one Task, Pipeline or StepAction in Tekton's own examples.
type Example struct {
	// File is relative to the directory of the examples.
	File     string
	Document *unstructured.Unstructured
}

// ID names the example in messages.
func (e Example) ID() string {
	return fmt.Sprintf("%s %s %s", e.File, e.Document.GetKind(), e.Document.GetName())
}

// Examples reads the examples in the module of a release.
func Examples(dir string) (found []Example, err error) {
	root := filepath.Join(dir, "examples")
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(path)) {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		documents, err := signable(content)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, document := range documents {
			found = append(found, Example{file, document})
		}
		return nil
	})
	return found, err
}

// signable returns the signable documents of a YAML stream.
func signable(stream []byte) (found []*unstructured.Unstructured, err error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(stream), 4096)
	for {
		document := &unstructured.Unstructured{}
		err := decoder.Decode(&document.Object)
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		if document.GroupVersionKind().Group == "tekton.dev" && slices.Contains(resource.Kinds, resource.Kind(document.GetKind())) {
			found = append(found, document)
		}
	}
}
