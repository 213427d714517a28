// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Parts of the control plane, as localcluster names them.
const (
	PartAPIServer        = "kube-apiserver"
	PartTektonController = "tekton-controller"
	PartTektonWebhook    = "tekton-webhook"
)

// Names in the manifests of config/: the controller's namespace, its service account and
// its configuration.
const (
	SystemNamespace = "tekton-chains"
	ServiceAccount  = "tekton-chains-controller"
	ConfigMap       = "chains-config"
)

// Cluster is a running control plane.
type Cluster struct {
	Binaries
	// Dir holds the data, logs and kubeconfig of the cluster.
	Dir string
	// Admin is the identity of an administrator, without a limit on the request rate.
	Admin *rest.Config
	// Kube and Tekton are clients with the identity Admin.
	Kube   kubernetes.Interface
	Tekton versioned.Interface

	supervisor *exec.Cmd     // nil if the cluster was started by Up
	ended      chan struct{} // closed when the supervisor has ended
	exit       error         // how the supervisor has ended
}

// Kubeconfig returns the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.Dir, "kubeconfig") }

// AuditLog returns the path of the API server's audit log, which has one line for each
// write to a Tekton object, a Pod, a namespace or an admission policy.
func (c *Cluster) AuditLog() string { return filepath.Join(c.Dir, "logs", "audit.log") }

// Log returns the path of the log of a part.
func (c *Cluster) Log(part string) string { return filepath.Join(c.Dir, "logs", part+".log") }

// Run starts a cluster in dir and applies the manifests of config/. The cluster ends
// with Stop, or when this process ends. Progress goes to out.
func Run(ctx context.Context, b Binaries, dir string, out io.Writer) (*Cluster, error) {
	return runCluster(ctx, b, dir, out, installFlags(b, dir))
}

func runCluster(ctx context.Context, b Binaries, dir string, out io.Writer, flags []string) (*Cluster, error) {
	// The end of the context does not kill the cluster: Stop ends all parts in order.
	supervisor := exec.CommandContext(context.WithoutCancel(ctx), b.LocalCluster, append([]string{"run"}, flags...)...)
	supervisor.SysProcAttr = dieWithParent()
	supervisor.Stdout, supervisor.Stderr = out, out
	if err := startOnLockedThread(supervisor); err != nil {
		return nil, err
	}
	c := &Cluster{Binaries: b, Dir: dir, supervisor: supervisor, ended: make(chan struct{})}
	go func() {
		c.exit = supervisor.Wait()
		close(c.ended)
	}()
	err := c.waitReady(ctx)
	if err == nil {
		err = c.connect()
	}
	if err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// waitReady waits for the file that localcluster writes when it is ready.
func (c *Cluster) waitReady(ctx context.Context) error {
	err := wait.PollUntilContextTimeout(ctx, PollInterval, startTimeout, true, func(context.Context) (bool, error) {
		select {
		case <-c.ended:
			return false, fmt.Errorf("localcluster ended before the cluster was ready: %w", c.exit)
		default:
		}
		_, err := os.Stat(filepath.Join(c.Dir, "state.json"))
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the cluster in %s: %w; see the output above and the logs in %s", c.Dir, err, filepath.Join(c.Dir, "logs"))
	}
	return nil
}

// Up starts a cluster in dir that continues to run after this process has ended. If a
// cluster runs in dir already, Up connects to it.
func Up(ctx context.Context, b Binaries, dir string, out io.Writer) (*Cluster, error) {
	up := command(ctx, out, b.LocalCluster, append([]string{"up"}, installFlags(b, dir)...)...)
	if err := up.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w", up, err)
	}
	return Connect(b, dir)
}

// Connect returns the cluster that Up has started in dir.
func Connect(b Binaries, dir string) (*Cluster, error) {
	c := &Cluster{Binaries: b, Dir: dir}
	if err := c.connect(); err != nil {
		return nil, fmt.Errorf("no cluster runs in %s: %w", dir, err)
	}
	return c, nil
}

// Down stops a cluster that Up has started. The data stays.
func Down(ctx context.Context, b Binaries, dir string, out io.Writer) error {
	return command(ctx, out, b.LocalCluster, "down", "--dir", dir).Run()
}

func clusterFlags(b Binaries, dir string) []string {
	return append(b.Releases.flags(), "--dir", dir, "--bin", b.Dir, "--module", localClusterModule())
}

// installFlags also make the cluster apply the manifests of config/.
func installFlags(b Binaries, dir string) []string {
	return append(clusterFlags(b, dir), "--manifests", filepath.Join(Root(), "config"))
}

func (c *Cluster) connect() (err error) {
	if c.Admin, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig()); err != nil {
		return err
	}
	c.Admin.QPS = -1
	if c.Kube, err = kubernetes.NewForConfig(c.Admin); err != nil {
		return err
	}
	c.Tekton, err = versioned.NewForConfig(c.Admin)
	return err
}

const (
	startTimeout = 2 * time.Minute
	stopTimeout  = time.Minute
)

// PollInterval is the time between two checks of a condition.
const PollInterval = 50 * time.Millisecond

// Stop ends a cluster that Run has started.
func (c *Cluster) Stop() error {
	if err := c.supervisor.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-c.ended:
		return c.exit
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("the cluster in %s did not stop within %v", c.Dir, stopTimeout), c.supervisor.Process.Kill())
	}
}

// Control runs a command of localcluster on a part: start, stop, kill, restart or
// remove.
func (c *Cluster) Control(ctx context.Context, action, part string) error {
	_, err := c.localcluster(ctx, action, part)
	return err
}

// Part is the status of one part of the cluster, as localcluster prints it.
type Part struct {
	Name  string `json:"name"`
	PID   int    `json:"pid"`
	State string `json:"state"`
}

// Part returns the status of the part with a name.
func (c *Cluster) Part(ctx context.Context, name string) (Part, error) {
	out, err := c.localcluster(ctx, "status", "-o", "json")
	if err != nil {
		return Part{}, err
	}
	var parts []Part
	if err := json.Unmarshal(out, &parts); err != nil {
		return Part{}, fmt.Errorf("localcluster status: %w", err)
	}
	for _, part := range parts {
		if part.Name == name {
			return part, nil
		}
	}
	return Part{}, fmt.Errorf("the cluster in %s has no part %s", c.Dir, name)
}

// RunKubectl runs kubectl as the administrator and returns its output.
func (c *Cluster) RunKubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.Kubectl(), append([]string{"--kubeconfig", c.Kubeconfig()}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// localcluster runs a command of localcluster on this cluster. args[0] is the command.
func (c *Cluster) localcluster(ctx context.Context, args ...string) ([]byte, error) {
	args = append([]string{args[0], "--dir", c.Dir}, args[1:]...)
	cmd := exec.CommandContext(ctx, c.LocalCluster, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("localcluster %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return out, nil
}
