// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"strconv"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/state"
)

// Ports are below the range that Linux uses for outgoing connections (by default 32768 and above). In that range,
// a client could take the port of a server that is down for a moment, and the server could not start again.
const (
	lowestPort  = 20000
	highestPort = 32767
)

// listeners are the names of all listeners of a cluster. Each gets a port.
var listeners = []string{
	"etcd", "etcd-peer", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "control",
	"kubelet", "kubelet-healthz", "registry", "pod-webhook",
	"tekton-webhook",
	"tekton-controller-probes", "tekton-controller-metrics", "tekton-controller-profiling",
	"tekton-webhook-probes", "tekton-webhook-metrics", "tekton-webhook-profiling",
	"tekton-resolvers-probes", "tekton-resolvers-metrics", "tekton-resolvers-profiling",
}

// Ports maps each listener to its port.
type Ports map[string]int

// address returns the loopback address of a listener.
func (p Ports) address(listener string) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p[listener]))
}

// choosePorts returns the ports of an earlier run from file if all of them are free. Otherwise it chooses new
// ports and writes them to file.
func choosePorts(ctx context.Context, file string) (Ports, error) {
	ports, err := readPorts(file)
	if err == nil && allFree(ctx, ports) {
		return ports, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ports = Ports{}
	taken := map[int]bool{}
	for _, name := range listeners {
		if ports[name], err = freePort(ctx, taken); err != nil {
			return nil, fmt.Errorf("find a port for %s: %w", name, err)
		}
	}
	data, err := json.MarshalIndent(ports, "", "  ")
	if err != nil {
		return nil, err
	}
	return ports, state.WriteFile(file, data)
}

func readPorts(file string) (Ports, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var ports Ports
	if err := json.Unmarshal(data, &ports); err != nil {
		return nil, fmt.Errorf("%s is not a list of ports: remove the file, so that new ports are chosen: %w", file, err)
	}
	return ports, nil
}

func allFree(ctx context.Context, ports Ports) bool {
	for _, name := range listeners {
		if port, ok := ports[name]; !ok || !isFree(ctx, port) {
			return false
		}
	}
	return true
}

func freePort(ctx context.Context, taken map[int]bool) (int, error) {
	for range 1000 {
		port := lowestPort + rand.IntN(highestPort-lowestPort+1) // #nosec G404 -- no secret
		if !taken[port] && isFree(ctx, port) {
			taken[port] = true
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port between %d and %d", lowestPort, highestPort)
}

func isFree(ctx context.Context, port int) bool {
	// The port must be free on all interfaces, because some of Tekton's servers listen on all.
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
