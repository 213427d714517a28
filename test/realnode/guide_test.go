// SPDX-License-Identifier: Apache-2.0

//go:build realnode

package realnode

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trusted-resources/chains-extension/test/harness"
)

const guidePassword = "a password of the guide" // #nosec G101 -- of a key that the test makes

// elsewhere are the sections that are about another installation. The tests that install
// this one are in test/e2e/operator_test.go.
var elsewhere = []string{"With the Tekton operator and on OpenShift"}

// The guide is executed from installation to uninstallation: each block of shell commands
// of the page, in the order of the page, with the real ko, kubectl and cosign. A block
// that is added to the page, or removed, needs a step here.
func TestGuide_WorksBlockByBlock(t *testing.T) {
	g := startGuide(t)
	page, err := os.ReadFile(filepath.Join(harness.Root(), "docs", "install.md"))
	g.check(err)
	steps := g.steps()
	blocks := slices.DeleteFunc(harness.ShellBlocks(string(page)), func(b harness.Block) bool { return slices.Contains(elsewhere, b.Section) })
	for i, block := range blocks {
		if i == len(steps) || steps[i].section != block.Section {
			t.Fatalf("docs/install.md:%d: a block of the section %q, where the test has no step for it", block.Line, block.Section)
		}
		step := steps[i]
		if !t.Run(step.name, func(t *testing.T) {
			g.env = env{t: t}
			if step.before != nil {
				step.before(g)
			}
			output := g.bash(block.Script)
			if step.after != nil {
				step.after(g, output)
			}
		}) {
			t.Fatalf("docs/install.md:%d: the step %q failed", block.Line, step.name)
		}
		steps[i].done = true
	}
	for _, step := range steps {
		if !step.done {
			t.Errorf("docs/install.md has no block for the step %q", step.name)
		}
	}
}

// guide is a reader of the guide, who works in a copy of the source tree.
type guide struct {
	env
	dir   string // the working directory
	tools string // a directory with ko, kubectl and cosign
	load  *load  // during the upgrade
}

func startGuide(t *testing.T) *guide {
	t.Helper()
	g := &guide{env: env{t: t}, dir: t.TempDir(), tools: t.TempDir()}
	g.uninstall()
	// The guide writes keys into the working directory.
	entries, err := os.ReadDir(harness.Root())
	g.check(err)
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), ".") {
			g.check(os.Symlink(filepath.Join(harness.Root(), entry.Name()), filepath.Join(g.dir, entry.Name())))
		}
	}
	for name, program := range map[string]string{
		"kubectl": cluster.Kubectl(),
		"ko":      filepath.Join(cluster.Binaries.Dir, "ko"),
		"cosign":  filepath.Join(cluster.Binaries.Dir, "cosign-v3"),
	} {
		g.check(os.Symlink(program, filepath.Join(g.tools, name)))
	}
	return g
}

// bash runs commands as a user would, and returns their output.
func (g *guide) bash(script string) string {
	g.t.Helper()
	environment, err := cluster.KoEnv()
	g.check(err)
	cmd := exec.CommandContext(g.t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = g.dir
	cmd.Env = append(os.Environ(), environment...)
	cmd.Env = append(cmd.Env, "PATH="+g.tools+":"+os.Getenv("PATH"), "COSIGN_PASSWORD="+guidePassword)
	out, err := cmd.CombinedOutput()
	if err != nil {
		g.t.Fatalf("%v of\n%s\n%s", err, script, out)
	}
	return string(out)
}

// uninstall removes what earlier tests have installed.
func (e env) uninstall() {
	e.t.Helper()
	if installed.manifests != "" {
		_, err := cluster.RunKubectl(e.t.Context(), installed.manifests, "delete", "--ignore-not-found", "-f", "-")
		e.check(err)
	}
	installed.public = nil
}
