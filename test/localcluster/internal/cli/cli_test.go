// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/state"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/supervisor"
)

// run runs a command line and returns its exit code and output.
func run(args ...string) (int, string) {
	var out strings.Builder
	code := Main(args, &out, &out)
	return code, out.String()
}

func TestCommands_ExplainErrors(t *testing.T) {
	empty := t.TempDir()
	stale := t.TempDir()
	if err := state.Write(stale, state.State{PID: 4711}); err != nil {
		t.Fatal(err)
	}
	busy := t.TempDir()
	unlock, err := state.Lock(busy)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"missing --dir", []string{"status"}, `"dir" not set`},
		{"no running cluster", []string{"status", "--dir", empty}, "localcluster up --dir " + empty},
		{"dead cluster", []string{"status", "--dir", stale}, "it was pid 4711"},
		{"starting cluster", []string{"status", "--dir", busy}, "is starting or stopping"},
		{"unknown format", []string{"status", "--dir", empty, "-o", "xml"}, `"xml"`},
		{"add without command", []string{"add", "x", "--dir", empty}, "requires at least 2 arg"},
		{"add without dashes", []string{"add", "x", "sleep", "--dir", empty}, "put -- between"},
		{"apply without files", []string{"apply", "--dir", empty}, "requires at least 1 arg"},
		{"kill without part", []string{"kill", "--dir", empty}, "accepts 1 arg"},
		{"up without binaries", []string{"up", "--dir", empty, "--bin", empty}, "localcluster build"},
		{"run without go.mod", []string{"run", "--dir", empty, "--module", empty}, "go.mod"},
		{"release of Tekton on a real node", []string{"run", "--dir", empty, "--node", "real", "--tekton-release", "v1.9.2"}, "use --node kwok"},
		{"unknown command", []string{"fly"}, `unknown command "fly"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if code, out := run(tc.args...); code != 1 || !strings.Contains(out, tc.want) {
				t.Errorf("exit code %d, output %q; want 1 and %q", code, out, tc.want)
			}
		})
	}
}

func TestDown_SucceedsWithoutCluster(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if code, out := run("down", "--dir", dir); code != 0 || !strings.Contains(out, "no cluster runs") {
		t.Errorf("exit code %d, output %q", code, out)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("down created the directory: %v", err)
	}
}

func TestCommands_HaveHelpAndExample(t *testing.T) {
	for _, cmd := range newRoot().Commands() {
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("%s has no short help or no example", cmd.Name())
		}
	}
}

func TestCompleteAdd_MakesPathsAbsolute(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("tool", nil, 0o700); err != nil {
		t.Fatal(err)
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	req := supervisor.AddRequest{Command: []string{"./tool", "--flag"}, Env: []string{"A=b=c"}}
	if err := completeAdd(&req); err != nil {
		t.Fatal(err)
	}
	if req.Command[0] != filepath.Join(wd, "tool") || req.Dir != wd {
		t.Errorf("command %q in %q, want an absolute path and %q", req.Command, req.Dir, wd)
	}
	for _, tc := range []struct {
		name string
		req  supervisor.AddRequest
		want string
	}{
		{"variable without value", supervisor.AddRequest{Command: []string{"./tool"}, Env: []string{"A"}}, "K=V"},
		{"variable without name", supervisor.AddRequest{Command: []string{"./tool"}, Env: []string{"=b"}}, "K=V"},
		{"missing program", supervisor.AddRequest{Command: []string{"./none"}}, "./none"},
	} {
		if err := completeAdd(&tc.req); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", tc.name, err, tc.want)
		}
	}
}
