// SPDX-License-Identifier: Apache-2.0

package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A wrapper repeats the replace directives of the release, with releases in place of directories that are not part
// of its module.
func TestRelease_WrapperRepeatsReplacements(t *testing.T) {
	released := []byte(`{"Go": "1.24.0", "Replace": [
		{"Old": {"Path": "k8s.io/api"}, "New": {"Path": "./staging/src/k8s.io/api"}},
		{"Old": {"Path": "example.com/a", "Version": "v1.0.0"}, "New": {"Path": "example.com/b", "Version": "v1.1.0"}}]}`)
	got, err := Kubernetes("v1.33.13").wrapper(released)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"go 1.24.0\n", "require k8s.io/kubernetes v1.33.13\n",
		"replace k8s.io/api  => k8s.io/api v0.33.13\n", "replace example.com/a v1.0.0 => example.com/b v1.1.0\n",
	} {
		if !strings.Contains(string(got), line) {
			t.Errorf("got %s, want a line %s", got, line)
		}
	}
	if _, err := Kubernetes("v1.33.13").wrapper([]byte("no JSON")); err == nil {
		t.Error("what is no go.mod is accepted")
	}
}

// Each release has binaries of its own, which are built once.
func TestRelease_MissingNamesBinariesThatAreNotBuilt(t *testing.T) {
	bin := t.TempDir()
	release := Tekton("v1.9.2")
	if got := release.Missing(bin); len(got) != len(release.Binaries) || got[0] != "tekton-v1.9.2/tekton-controller" {
		t.Errorf("nothing is built: missing are %q", got)
	}
	for _, b := range release.Binaries {
		target := filepath.Join(release.Dir(bin), b.Name)
		if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
			t.Fatal(err)
		}
		for file, content := range map[string]string{target: "", stampFile(target): release.stamp(b) + "\n"} {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := release.Missing(bin); len(got) != 0 {
		t.Errorf("all are built: missing are %q", got)
	}
	if got := Tekton("v1.6.2").Missing(bin); len(got) != len(release.Binaries) {
		t.Errorf("of another release are missing %q", got)
	}
	if !release.Has(TektonWebhook) || release.Has(APIServer) {
		t.Error("a release of Tekton has Tekton's binaries and no other")
	}
}
