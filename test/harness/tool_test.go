package harness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A program of another release is not the one that is wanted.
func TestTool_InstalledRejectsOtherVersions(t *testing.T) {
	check(t, BuildDistribution(t.Context(), os.Stderr))
	if !distribution.installed() {
		t.Error("it was built and is not installed")
	}
	other := distribution
	other.version = "v3.1.1"
	if other.installed() {
		t.Error("another version is installed, too")
	}
	other = distribution
	other.name = "cosign-v3"
	if other.installed() {
		t.Error("another program is as good")
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
			t.Errorf("go.mod has no %q:\n%s", want, wrapper)
		}
	}
}

// What tkn pushes is what Tekton's resolver takes, in the registry and under
// the digest that PushBundle says.
func TestTkn_PushesBundleThatTektonResolves(t *testing.T) {
	if !tkn.installed() {
		t.Skip("tkn is built on demand, by the benchmark")
	}
	registry, err := StartRegistry(t.Context())
	check(t, err)
	t.Cleanup(func() { _ = registry.Stop() })
	file := filepath.Join(t.TempDir(), "task.yaml")
	check(t, os.WriteFile(file, []byte("apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {name: build}\nspec: {steps: [{name: a, image: busybox}]}\n"), 0o600))
	ref, err := Tkn{}.PushBundle(t.Context(), registry.Bundles()+":latest", file)
	check(t, err)
	if got := entry(t, ref, "task"); !strings.Contains(got, "busybox") {
		t.Errorf("the bundle has:\n%s", got)
	}
	if _, err := (Tkn{}).PushBundle(t.Context(), registry.Bundles()+":latest", file+".missing"); err == nil {
		t.Error("it pushes a file that is not there")
	}
}
