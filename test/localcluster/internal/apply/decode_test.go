// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func describeAll(objects []*unstructured.Unstructured) []string {
	names := make([]string, len(objects))
	for i, o := range objects {
		names[i] = Describe(o)
	}
	return names
}

func TestDecode_ReadsAllDocuments(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"empty file", "", nil},
		{"comments only", "# hello\n---\n# again\n", nil},
		{"two documents", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: ns}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: ns}\n",
			[]string{"ConfigMap ns/a", "Namespace ns"}},
		{"JSON", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"}}`, []string{"Secret s"}},
		{"list", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: a}}\n- {apiVersion: v1, kind: Secret, metadata: {name: b}}\n",
			[]string{"Secret a", "Secret b"}},
		{"kustomization", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [x.yaml]\n", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Decode([]byte(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			if names := describeAll(got); !slices.Equal(names, tc.want) {
				t.Errorf("got %q, want %q", names, tc.want)
			}
		})
	}
}

func TestDecode_RejectsInvalidDocuments(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"no kind", "apiVersion: v1\nmetadata: {name: a}\n", "kind is missing"},
		{"no name", "apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\n", "metadata.name"},
		{"invalid YAML in second document", "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n---\na: b: c\n", "document 2"},
		{"scalar", "hello\n", "document 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := Decode([]byte(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestLoad_ReadsFilesAndDirectories(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"b.yaml":        "apiVersion: v1\nkind: Secret\nmetadata: {name: b}\n",
		"a.yml":         "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n",
		"README.md":     "no manifest",
		"sub/deep.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: deep}\n",
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Load(dir, filepath.Join(dir, "sub", "deep.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if names, want := describeAll(got), []string{"Secret a", "Secret b", "Secret deep"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	if _, err := Load(filepath.Join(dir, "none")); err == nil {
		t.Error("Load of a missing file returned no error")
	}
}

func TestWaves_OrderKindsByReferences(t *testing.T) {
	objects := []*unstructured.Unstructured{
		kind("TaskRun", "r"), kind("Deployment", "d"), kind("RoleBinding", "b"), kind("Secret", "s"),
		kind("CustomResourceDefinition", "c"), kind("Task", "t"), kind("Namespace", "n"), kind("Role", "o"),
	}
	sorted := waves(Without(objects, Workloads))
	got := make([][]string, len(sorted))
	for i, wave := range sorted {
		got[i] = describeAll(wave)
	}
	want := [][]string{
		{"Namespace n"}, {"CustomResourceDefinition c"}, {"Secret s", "Role o"}, {"RoleBinding b"},
		{"TaskRun r", "Task t"}, // in the given order
	}
	if !slices.EqualFunc(got, want, slices.Equal[[]string]) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(objects) != 8 {
		t.Error("Without changed its argument")
	}
}

func kind(kind, name string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetKind(kind)
	o.SetName(name)
	return o
}
