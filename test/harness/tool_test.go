// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A program of another release or of another module does not count as installed.
func TestTool_InstalledRejectsOtherVersions(t *testing.T) {
	check(t, BuildDistribution(t.Context(), os.Stderr))
	if !distribution.installed() {
		t.Error("the program was built, but installed returns false")
	}
	other := distribution
	other.version = "v3.1.1"
	if other.installed() {
		t.Error("installed returns true for another version")
	}
	other = distribution
	other.name = "cosign-v3"
	if other.installed() {
		t.Error("installed returns true for the file of another program")
	}
}

func TestTool_WrapperRepeatsReplaceDirectives(t *testing.T) {
	wrapper, err := tkn.wrapper([]byte(strings.Join([]string{
		"module github.com/tektoncd/cli", "go 1.26.5", "require example.com/one v1.0.0",
		"replace example.com/one => example.com/two v1.1.0",
		"replace example.com/three v1.0.0 => example.com/four v1.2.0",
	}, "\n")))
	check(t, err)
	for _, want := range []string{
		"module installed\n", "go 1.26.5\n", "require github.com/tektoncd/cli " + tkn.version + "\n",
		"example.com/one => example.com/two v1.1.0\n", "example.com/three v1.0.0 => example.com/four v1.2.0\n",
	} {
		if !strings.Contains(string(wrapper), want) {
			t.Errorf("go.mod lacks %q:\n%s", want, wrapper)
		}
	}
}

// Tekton's resolver finds the bundle that tkn has pushed under the digest that
// PushBundle returns.
func TestTkn_PushesBundleThatTektonResolves(t *testing.T) {
	if !tkn.installed() {
		t.Skip("tkn is not built: the benchmark builds it")
	}
	registry, err := StartRegistry(t.Context())
	check(t, err)
	t.Cleanup(func() { _ = registry.Stop() })
	file := filepath.Join(t.TempDir(), "task.yaml")
	check(t, os.WriteFile(file, []byte("apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {name: build}\nspec: {steps: [{name: a, image: busybox}]}\n"), 0o600))
	ref, err := Tkn{}.PushBundle(t.Context(), registry.Bundles()+":latest", file)
	check(t, err)
	if got := entry(t, ref, "task"); !strings.Contains(got, "busybox") {
		t.Errorf("got Task\n%s\nwant the image busybox", got)
	}
	if _, err := (Tkn{}).PushBundle(t.Context(), registry.Bundles()+":latest", file+".missing"); err == nil {
		t.Error("PushBundle of a missing file returned no error")
	}
}
