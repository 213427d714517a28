// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeLocalCluster writes a kubeconfig to its last argument, and its arguments
// beside that file.
const fakeLocalCluster = `#!/bin/sh
for output; do :; done
echo "$*" > "$output.args"
cat > "$output" <<'END'
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443"}}]
users: [{name: u, user: {token: "a token"}}]
END
`

func TestServiceAccountConfig_ActsAsTheController(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "localcluster")
	check(t, os.WriteFile(program, []byte(fakeLocalCluster), 0o700))
	cluster := &Cluster{Binaries: Binaries{LocalCluster: program}, Dir: dir}
	config, err := cluster.ServiceAccountConfig(t.Context())
	check(t, err)
	if config.BearerToken != "a token" || config.Host != "https://127.0.0.1:6443" {
		t.Errorf("got token %q for %s", config.BearerToken, config.Host)
	}
	if config.QPS >= 0 {
		t.Errorf("the client limits its rate to %v per second", config.QPS)
	}
	args, err := filepath.Glob(filepath.Join(dir, "*.args"))
	check(t, err)
	if len(args) != 1 {
		t.Fatalf("got %v", args)
	}
	got, err := os.ReadFile(args[0])
	check(t, err)
	if want := "--service-account tekton-chains/tekton-chains-controller "; !strings.Contains(string(got), want) {
		t.Errorf("got localcluster %s, want %s", got, want)
	}
}
