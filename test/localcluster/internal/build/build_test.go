// SPDX-License-Identifier: Apache-2.0

package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStamp_ChangesWithVersions(t *testing.T) {
	module := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(module, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module x\n")
	write("go.sum", "")
	stampOf := func(b Binary) string {
		t.Helper()
		s, err := stamp(module, b)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := stampOf(ControlPlane[0])
	if again := stampOf(ControlPlane[0]); again != first {
		t.Error("the stamp of the same versions differs")
	}
	if other := stampOf(ControlPlane[1]); other == first {
		t.Error("two binaries have the same stamp")
	}
	write("go.sum", "changed")
	if changed := stampOf(ControlPlane[0]); changed == first {
		t.Error("the stamp did not change with go.sum")
	}
}

func TestMissing_ListsAbsentAndOutdatedBinaries(t *testing.T) {
	module, bin := t.TempDir(), t.TempDir()
	for _, name := range []string{"go.mod", "go.sum"} {
		if err := os.WriteFile(filepath.Join(module, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range ControlPlane[1:] {
		want, err := stamp(module, b)
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(bin, b.Name)
		if err := os.WriteFile(target, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(stampFile(target), []byte(want+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(stampFile(filepath.Join(bin, ControlPlane[2].Name)), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Missing(module, bin, ControlPlane)
	if err != nil || len(got) != 2 || got[0] != ControlPlane[0].Name || got[1] != ControlPlane[2].Name {
		t.Errorf("Missing = %q, %v; want the absent and the outdated binary", got, err)
	}
}

func TestFindModule_SearchesAroundWorkingDirectory(t *testing.T) {
	root := t.TempDir()
	module := filepath.Join(root, filepath.FromSlash(inRepository))
	deep := filepath.Join(root, "some", "where")
	for _, dir := range []string{module, deep} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(module, "go.mod"), []byte("module "+modulePath+"\n\ngo 1.26\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{module, root, deep} {
		t.Chdir(dir)
		got, err := FindModule()
		if err != nil || got != module {
			t.Errorf("from %s: %q, %v; want %q", dir, got, err, module)
		}
	}
	t.Chdir(t.TempDir())
	if got, err := FindModule(); err == nil || !strings.Contains(err.Error(), "--module") {
		t.Errorf("outside of the repository: %q, %v; want an error that names --module", got, err)
	}
}

func TestDependencies_FindsRequiredModules(t *testing.T) {
	module, err := FindModule()
	if err != nil {
		t.Fatal(err)
	}
	deps, err := Dependencies(t.Context(), module, "sigs.k8s.io/kwok", "github.com/tektoncd/pipeline")
	if err != nil {
		t.Fatal(err)
	}
	if deps[0].Path != "sigs.k8s.io/kwok" || deps[1].Path != "github.com/tektoncd/pipeline" || !strings.HasPrefix(deps[1].Version, "v") {
		t.Errorf("got %+v", deps)
	}
	if _, err := Dependencies(t.Context(), module, "example.com/none"); err == nil {
		t.Error("Dependencies of an unknown module returned no error")
	}
}
