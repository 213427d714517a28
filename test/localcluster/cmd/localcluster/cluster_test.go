// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/build"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/cli"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/cluster"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proctest"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/state"
)

const (
	// asCLI is an environment variable that makes the test binary behave like localcluster, so that the
	// supervisor is a process of its own.
	asCLI = "LOCALCLUSTER_TEST_AS_CLI"
	// binEnv is an environment variable with the directory of the binaries. The default is the directory in
	// the repository.
	binEnv = "LOCALCLUSTER_BIN"

	within = time.Minute
	poll   = 100 * time.Millisecond
)

func TestMain(m *testing.M) {
	if os.Getenv(asCLI) != "" {
		os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// testCluster is a running cluster. Its methods run commands of localcluster.
type testCluster struct {
	dir, bin string
}

// try runs a command with the --dir of this cluster and returns its output.
func (c testCluster) try(ctx context.Context, command string, args ...string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{command, "--dir", c.dir}, args...)...)
	cmd.Env = append(os.Environ(), asCLI+"=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c testCluster) run(t *testing.T, command string, args ...string) string {
	t.Helper()
	out, err := c.try(t.Context(), command, args...)
	if err != nil {
		t.Fatalf("localcluster %s: %v\n%s", command, err, out)
	}
	return out
}

func (c testCluster) up(t *testing.T) {
	t.Helper()
	t.Log(c.run(t, "up", "--bin", c.bin))
}

func (c testCluster) state(t *testing.T) state.State {
	t.Helper()
	s, err := state.Read(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// get reads a Tekton object in the default namespace.
func (c testCluster) get(ctx context.Context, resource, name string) (*unstructured.Unstructured, error) {
	cfg, err := cluster.RESTConfig(filepath.Join(c.dir, "kubeconfig"))
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	gvr := schema.GroupVersionResource{Group: "tekton.dev", Version: "v1", Resource: resource}
	return client.Resource(gvr).Namespace(metav1.NamespaceDefault).Get(ctx, name, metav1.GetOptions{})
}

func (c testCluster) part(t *testing.T, name string) proc.Status {
	t.Helper()
	var parts []proc.Status
	if err := json.Unmarshal([]byte(c.run(t, "status", "-o", "json")), &parts); err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("the cluster has no part %s: %+v", name, parts)
	return proc.Status{}
}

// binaries builds the missing binaries, which takes about 15 minutes the first time.
func binaries(t *testing.T) string {
	t.Helper()
	module, err := build.FindModule()
	if err != nil {
		t.Fatal(err)
	}
	bin := os.Getenv(binEnv)
	if bin == "" {
		bin = build.DefaultBin(module)
	}
	if err := build.All(t.Context(), module, bin, slices.Concat(build.ControlPlane, build.KwokNode), t.Logf); err != nil {
		t.Fatal(err)
	}
	return bin
}

// TestCluster_KeepsDataThroughFaults starts one cluster and runs the steps in order. Each step needs the steps
// before it.
func TestCluster_KeepsDataThroughFaults(t *testing.T) {
	c := testCluster{dir: t.TempDir(), bin: binaries(t)}
	t.Cleanup(func() {
		if out, err := c.try(context.Background(), "down"); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	c.up(t)
	if out := c.run(t, "up", "--bin", c.bin); !strings.Contains(out, "runs already") {
		t.Errorf("the second up printed %q, want that the cluster runs already", out)
	}
	for _, step := range []struct {
		name string
		test func(*testing.T, testCluster)
	}{
		{"Tekton runs Tasks", tektonRunsTasks},
		{"writes are audited", writesAreAudited},
		{"service accounts need permissions", rbacApplies},
		{"parts can be added", partsCanBeAdded},
		{"restarted API server has the same data", restartedAPIServerKeepsData},
		{"parts end with killed supervisor", partsEndWithSupervisor},
		{"restarted cluster has the same data", restartedClusterKeepsData},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.test(t, c) }) {
			t.FailNow()
		}
	}
}

func tektonRunsTasks(t *testing.T, c testCluster) {
	c.run(t, "apply", "testdata/task.yaml", "testdata/taskruns.yaml")
	for _, tc := range []struct{ name, status, reason, results string }{
		{"succeeds", "True", "Succeeded", "[map[name:greeting type:string value:hello]]"},
		{"fails", "False", "StepFailed", "<nil>"},
	} {
		status, reason, results := c.outcome(t, tc.name)
		if status != tc.status || reason != tc.reason || results != tc.results {
			t.Errorf("TaskRun %s: status %s, reason %s, results %s; want %+v", tc.name, status, reason, results, tc)
		}
	}
}

// outcome waits until a TaskRun has ended and returns its outcome.
func (c testCluster) outcome(t *testing.T, name string) (status, reason, results string) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), poll, within, true, func(ctx context.Context) (bool, error) {
		run, err := c.get(ctx, "taskruns", name)
		if err != nil {
			return false, err
		}
		conditions, _, _ := unstructured.NestedSlice(run.Object, "status", "conditions")
		for _, condition := range conditions {
			fields, _ := condition.(map[string]any)
			status, reason = fmt.Sprint(fields["status"]), fmt.Sprint(fields["reason"])
		}
		value, _, _ := unstructured.NestedFieldNoCopy(run.Object, "status", "results")
		results = fmt.Sprint(value)
		return status == "True" || status == "False", nil
	})
	if err != nil {
		t.Fatalf("TaskRun %s has not ended: %v; status %s, reason %s", name, err, status, reason)
	}
	return status, reason, results
}

func writesAreAudited(t *testing.T, c testCluster) {
	log, err := os.ReadFile(filepath.Join(c.dir, "logs", "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	writers := map[string]bool{}
	for line := range bytes.Lines(log) {
		var event struct {
			Verb      string
			User      struct{ Username string }
			ObjectRef struct{ APIGroup, Resource string }
		}
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		ref := event.ObjectRef
		recorded := ref.APIGroup == "tekton.dev" || ref.APIGroup == "admissionregistration.k8s.io" ||
			ref.APIGroup == "" && (ref.Resource == "namespaces" || ref.Resource == "pods")
		if !recorded || event.Verb == "get" || event.Verb == "list" || event.Verb == "watch" {
			t.Errorf("the audit log has an entry that the policy excludes: %s", line)
		}
		writers[event.User.Username+" "+ref.Resource] = true
	}
	for _, want := range []string{
		"admin tasks", "admin validatingwebhookconfigurations",
		"system:serviceaccount:tekton-pipelines:tekton-pipelines-controller taskruns",
		"system:serviceaccount:tekton-pipelines:tekton-pipelines-controller pods",
	} {
		if !writers[want] {
			t.Errorf("the audit log has no write by %q, only by %v", want, writers)
		}
	}
}

func rbacApplies(t *testing.T, c testCluster) {
	file := filepath.Join(t.TempDir(), "kubeconfig")
	c.run(t, "kubeconfig", "--service-account", "default/default", "--output", file)
	out, err := c.try(t.Context(), "apply", "--kubeconfig", file, "testdata/task.yaml")
	if err == nil || !strings.Contains(out, "system:serviceaccount:default:default") || !strings.Contains(out, "forbidden") {
		t.Errorf("apply as a service account without permissions: got error %v, want forbidden\n%s", err, out)
	}
}

func partsCanBeAdded(t *testing.T, c testCluster) {
	c.run(t, "add", "mine", "--env", "GREETING=hello", "--", "sh", "-c", "echo $GREETING from $KUBECONFIG; exec sleep 1000")
	mine := c.part(t, "mine")
	if mine.State != proc.Running {
		t.Fatalf("the added part is %+v, want running", mine)
	}
	want := "hello from " + filepath.Join(c.dir, "kubeconfig")
	err := wait.PollUntilContextTimeout(t.Context(), poll, within, true, func(context.Context) (bool, error) {
		log, err := os.ReadFile(mine.Log)
		return strings.Contains(string(log), want), err
	})
	if err != nil {
		t.Errorf("the log of the added part lacks %q: %v", want, err)
	}
	c.run(t, "kill", "mine")
	if !proctest.Gone(mine.PID) {
		t.Errorf("process %d still runs after kill", mine.PID)
	}
	c.run(t, "remove", "mine")
	if out := c.run(t, "status"); strings.Contains(out, "mine") {
		t.Errorf("status still lists the part after remove:\n%s", out)
	}
}

func restartedAPIServerKeepsData(t *testing.T, c testCluster) {
	before, err := c.get(t.Context(), "tasks", "hello")
	if err != nil {
		t.Fatal(err)
	}
	c.run(t, "kill", build.APIServer)
	if got := c.part(t, build.APIServer); got.State != proc.Stopped || got.PID != 0 {
		t.Errorf("after kill: %+v, want stopped without a PID", got)
	}
	if _, err := c.get(t.Context(), "tasks", "hello"); err == nil {
		t.Error("the API server responds after it was killed")
	}
	c.run(t, "start", build.APIServer)
	after, err := c.get(t.Context(), "tasks", "hello")
	if err != nil {
		t.Fatalf("reading the Task after start, with the same kubeconfig: %v", err)
	}
	if before.GetUID() != after.GetUID() || before.GetResourceVersion() != after.GetResourceVersion() {
		t.Errorf("the Task changed: %s/%s, before %s/%s", after.GetUID(), after.GetResourceVersion(), before.GetUID(), before.GetResourceVersion())
	}
}

func partsEndWithSupervisor(t *testing.T, c testCluster) {
	s := c.state(t)
	if len(s.Parts) < 8 {
		t.Fatalf("only %d parts run: %+v", len(s.Parts), s.Parts)
	}
	if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, p := range s.Parts {
		err := wait.PollUntilContextTimeout(t.Context(), poll, within, true, func(context.Context) (bool, error) {
			return proctest.Gone(p.PID), nil
		})
		if err != nil {
			t.Errorf("%s (pid %d) still runs after its supervisor was killed: %v", p.Name, p.PID, err)
		}
	}
	if out, err := c.try(t.Context(), "status"); err == nil || !strings.Contains(out, "has died") {
		t.Errorf("status of a dead cluster: got error %v and %q, want that the cluster has died", err, out)
	}
}

func restartedClusterKeepsData(t *testing.T, c testCluster) {
	c.up(t)
	if _, err := c.get(t.Context(), "tasks", "hello"); err != nil {
		t.Error(err)
	}
	c.run(t, "apply", "testdata/task.yaml")
	for _, want := range []string{"stopped the cluster", "no cluster runs"} {
		if out := c.run(t, "down"); !strings.Contains(out, want) {
			t.Errorf("down printed %q, want %q", out, want)
		}
	}
}
