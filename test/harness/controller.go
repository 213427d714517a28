package harness

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Controller is one replica of the controller under test. It runs with the
// service account and RBAC of config/.
type Controller struct {
	// Name is that of the part of the cluster.
	Name string
	// MetricsURL serves Prometheus metrics.
	MetricsURL string

	cluster *Cluster
}

// AddController starts a replica that reads its signing secret from
// secretsDir, and waits until it answers its health probe.
func (c *Cluster) AddController(ctx context.Context, name, secretsDir string, flags ...string) (*Controller, error) {
	kubeconfig := filepath.Join(c.Dir, ServiceAccount+".kubeconfig")
	if _, err := c.localcluster(ctx, "kubeconfig", "--service-account", SystemNamespace+"/"+ServiceAccount, "--output", kubeconfig); err != nil {
		return nil, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	health, metrics, profiling := ports[0], ports[1], ports[2]
	add := []string{"add", name, "--ready-url", fmt.Sprintf("http://127.0.0.1:%d/readiness", health)}
	for key, value := range map[string]string{
		"SYSTEM_NAMESPACE":           SystemNamespace,
		"POD_NAME":                   name,
		"CONFIG_OBSERVABILITY_NAME":  "tekton-chains-config-observability",
		"CONFIG_LEADERELECTION_NAME": "tekton-chains-config-leader-election",
		"METRICS_DOMAIN":             "tekton.dev/chains",
		"METRICS_PROMETHEUS_HOST":    "127.0.0.1",
		"METRICS_PROMETHEUS_PORT":    strconv.Itoa(metrics),
		"PROFILING_PORT":             strconv.Itoa(profiling),
	} {
		add = append(add, "--env", key+"="+value)
	}
	add = append(add, "--", c.Binaries.Controller, "--kubeconfig", kubeconfig,
		"--signing-secrets", secretsDir, "--health-port", strconv.Itoa(health))
	if _, err := c.localcluster(ctx, append(add, flags...)...); err != nil {
		return nil, err
	}
	return &Controller{Name: name, MetricsURL: fmt.Sprintf("http://127.0.0.1:%d/metrics", metrics), cluster: c}, nil
}

// Start starts it again after Stop or Kill.
func (c *Controller) Start(ctx context.Context) error { return c.cluster.Control(ctx, "start", c.Name) }

// Stop ends it as Kubernetes would, with SIGTERM.
func (c *Controller) Stop(ctx context.Context) error { return c.cluster.Control(ctx, "stop", c.Name) }

// Kill ends it with SIGKILL.
func (c *Controller) Kill(ctx context.Context) error { return c.cluster.Control(ctx, "kill", c.Name) }

// Remove stops it for good.
func (c *Controller) Remove(ctx context.Context) error {
	return c.cluster.Control(ctx, "remove", c.Name)
}

// Log is all that it has printed.
func (c *Controller) Log() (string, error) {
	content, err := os.ReadFile(c.cluster.Log(c.Name))
	return string(content), err
}

// ResidentMemory is its resident set size in bytes, as the kernel counts it.
func (c *Controller) ResidentMemory(ctx context.Context) (uint64, error) {
	part, err := c.cluster.Part(ctx, c.Name)
	if err != nil {
		return 0, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", part.PID))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, "VmRSS:"); found {
			kibibytes, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			return kibibytes << 10, err
		}
	}
	return 0, fmt.Errorf("process %d does not tell its resident memory", part.PID)
}

func freePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
