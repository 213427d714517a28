// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
)

// Controller is one replica of the controller under test. The replica runs with the
// service account and RBAC of config/.
type Controller struct {
	// Name is the name of the replica as a part of the cluster.
	Name string
	// MetricsURL serves Prometheus metrics.
	MetricsURL string
	// ProfilingURL serves the profiles of net/http/pprof when they are enabled in
	// the ConfigMap ConfigObservability. It ends with a slash.
	ProfilingURL string

	cluster  *Cluster
	logStart int64 // size of the log before this replica started
	memory   *memoryWatch
}

// AddController starts a replica that reads its signing secret from secretsDir. It
// waits until the replica answers its readiness probe.
func (c *Cluster) AddController(ctx context.Context, name, secretsDir string, flags ...string) (*Controller, error) {
	return c.AddControllerIn(ctx, nil, name, secretsDir, flags...)
}

// AddControllerIn is AddController with additional environment variables, each of
// the form NAME=value.
func (c *Cluster) AddControllerIn(ctx context.Context, environment []string, name, secretsDir string, flags ...string) (*Controller, error) {
	how, err := c.controllerInvocation(ctx, name, secretsDir, flags)
	if err != nil {
		return nil, err
	}
	how.env = append(how.env, environment...)
	return c.addController(ctx, name, how)
}

// addController starts a replica and waits until the replica answers its readiness probe.
func (c *Cluster) addController(ctx context.Context, name string, how invocation) (controller *Controller, err error) {
	controller = &Controller{
		Name: name, MetricsURL: how.metricsURL, ProfilingURL: how.pprofURL,
		cluster: c, memory: &memoryWatch{limit: how.memory.limit},
	}
	if controller.logStart, err = sizeOf(c.Log(name)); err != nil {
		return nil, err
	}
	add := []string{"add", name, "--ready-url", how.readyURL}
	for _, variable := range how.env {
		add = append(add, "--env", variable)
	}
	add = append(append(add, "--"), how.command...)
	if _, err := c.localcluster(ctx, add...); err != nil {
		return nil, err
	}
	return controller, controller.watchMemory(ctx)
}

// RunController runs a replica in the foreground until the context ends.
func (c *Cluster) RunController(ctx context.Context, out io.Writer, secretsDir string, flags ...string) error {
	how, err := c.controllerInvocation(ctx, "controller", secretsDir, flags)
	if err != nil {
		return err
	}
	cmd := command(ctx, out, how.command[0], how.command[1:]...)
	cmd.Env = append(os.Environ(), how.env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Run(); ctx.Err() == nil { // otherwise the caller has asked it to stop
		return err
	}
	return nil
}

// invocation is the command line and environment of one replica.
type invocation struct {
	command, env         []string
	readyURL, metricsURL string
	pprofURL             string
	memory               memory
}

// ConfigObservability is the ConfigMap for metrics and profiling.
const ConfigObservability = "tekton-chains-config-observability"

func (c *Cluster) controllerInvocation(ctx context.Context, name, secretsDir string, flags []string) (invocation, error) {
	kubeconfig, err := c.writeServiceAccountKubeconfig(ctx)
	if err != nil {
		return invocation{}, err
	}
	how, err := c.invocation(ctx, kubeconfig, secretsDir, []string{
		"SYSTEM_NAMESPACE=" + SystemNamespace,
		"POD_NAME=" + name,
		"CONFIG_OBSERVABILITY_NAME=" + ConfigObservability,
		"CONFIG_LEADERELECTION_NAME=tekton-chains-config-leader-election",
		"METRICS_DOMAIN=tekton.dev/chains",
	}, flags)
	if !c.Race {
		how.env = append(how.env, how.memory.env...)
	}
	return how, err
}

// invocation adds to the environment and flags of a replica what a Pod has and a process
// has not: the identity, the signing secret, and ports that no other process uses.
func (c *Cluster) invocation(ctx context.Context, kubeconfig, secretsDir string, env, flags []string) (invocation, error) {
	ports, err := freePorts(ctx, 3)
	if err != nil {
		return invocation{}, err
	}
	memory, err := deployedMemory()
	if err != nil {
		return invocation{}, err
	}
	health, metrics, profiling := ports[0], ports[1], ports[2]
	how := invocation{
		command: append([]string{
			c.Controller, "--kubeconfig", kubeconfig,
			"--signing-secrets", secretsDir, "--health-port", strconv.Itoa(health),
		}, flags...),
		env: append(env,
			"METRICS_PROMETHEUS_HOST=127.0.0.1",
			"METRICS_PROMETHEUS_PORT="+strconv.Itoa(metrics),
			"PROFILING_PORT="+strconv.Itoa(profiling),
			"KUBERNETES_MIN_VERSION=v0.0.0", // the API server is built without a version
		),
		memory:     memory,
		pprofURL:   fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/", profiling),
		readyURL:   fmt.Sprintf("http://127.0.0.1:%d/readiness", health),
		metricsURL: fmt.Sprintf("http://127.0.0.1:%d/metrics", metrics),
	}
	if c.Race { // report all data races, not only the first one
		how.env = append(how.env, "GORACE=halt_on_error=0 exitcode=66")
	}
	return how, nil
}

// Start starts the replica again after Stop or Kill.
func (c *Controller) Start(ctx context.Context) error {
	if err := c.cluster.Control(ctx, "start", c.Name); err != nil {
		return err
	}
	return c.watchMemory(ctx)
}

// Stop ends the replica with SIGTERM, as Kubernetes does. Stop, Kill and Remove return
// an error if the race detector has reported a data race in the replica, or if the
// replica took more memory than its Deployment allows.
func (c *Controller) Stop(ctx context.Context) error { return c.end(ctx, "stop") }

// Kill ends the replica with SIGKILL.
func (c *Controller) Kill(ctx context.Context) error { return c.end(ctx, "kill") }

// Remove stops the replica and removes it from the cluster. Its log stays.
func (c *Controller) Remove(ctx context.Context) error { return c.end(ctx, "remove") }

func (c *Controller) end(ctx context.Context, action string) error {
	return errors.Join(c.cluster.Control(ctx, action, c.Name), c.checkDataRaces(), c.memory.check())
}

// Log returns the output of all replicas with this name, in this test and earlier ones.
func (c *Controller) Log() (string, error) {
	content, err := os.ReadFile(c.cluster.Log(c.Name))
	return string(content), err
}

// checkDataRaces returns an error with the first data race that the race detector has
// reported in this replica.
func (c *Controller) checkDataRaces() error {
	if !c.cluster.Race {
		return nil
	}
	log, err := c.Log()
	if err != nil {
		return err
	}
	if report := firstDataRace(log[min(c.logStart, int64(len(log))):]); report != "" {
		return fmt.Errorf("the race detector has found a data race in %s, see %s:\n%s", c.Name, c.cluster.Log(c.Name), report)
	}
	return nil
}

// sizeOf returns the size of a file, which is 0 if the file does not exist.
func sizeOf(file string) (int64, error) {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func freePorts(ctx context.Context, n int) ([]int, error) {
	ports := make([]int, 0, n)
	for range n {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = listener.Close() }() // only at the end, so that all ports differ
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
