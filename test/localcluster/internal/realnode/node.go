// SPDX-License-Identifier: Apache-2.0

// Package realnode describes nodes that run containers: a kubelet, and a containerd and runc of the system's
// packages. Each node has directories, sockets and cgroups of its own, so that CleanUp can end everything that a
// node has started, also after the processes of the cluster were killed.
package realnode

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// maxSocket is the length of the name of a socket at most, in bytes, see unix(7).
const maxSocket = 107

// runDir has a short name, because sockets are in it.
const runDir = "/run/localcluster"

// MaxNodes is the number of nodes that a cluster has at most.
const MaxNodes = 2

// Node is one node of a cluster.
type Node struct {
	// Number counts from 1.
	Number int
	// Address is a loopback address. It is the name of the node, too: a kubelet accepts a loopback address only
	// as the name of its host.
	Address string

	cluster string // identifies the directory of the cluster
	root    string // data that stays when the cluster stops
	run     string // sockets, and mounts of containers
}

// New returns a node of the cluster in dir, which is an absolute path.
func New(dir string, number int) Node {
	digest := sha256.Sum256([]byte(dir))
	cluster := hex.EncodeToString(digest[:6])
	return Node{
		Number:  number,
		Address: fmt.Sprintf("127.0.0.%d", number),
		cluster: cluster,
		root:    filepath.Join(dir, "nodes", strconv.Itoa(number)),
		run:     filepath.Join(runDir, cluster, strconv.Itoa(number)),
	}
}

// User returns the name with which the kubelet authenticates, and its group.
func (n Node) User() (name, group string) { return "system:node:" + n.Address, "system:nodes" }

// Part returns the name of a process of this node.
func (n Node) Part(program string) string {
	if n.Number == 1 {
		return program
	}
	return fmt.Sprintf("%s-%d", program, n.Number)
}

// Socket returns the socket of containerd.
func (n Node) Socket() string { return filepath.Join(n.run, "containerd.sock") }

// ContainerdConfig returns the path of the configuration of containerd.
func (n Node) ContainerdConfig() string { return filepath.Join(n.root, "containerd.toml") }

// KubeletConfig returns the path of the configuration of the kubelet.
func (n Node) KubeletConfig() string { return filepath.Join(n.root, "kubelet.yaml") }

// KubeletRoot returns the directory of the kubelet's data.
func (n Node) KubeletRoot() string { return filepath.Join(n.root, "kubelet") }

// HealthURL returns the URL of the kubelet's health check.
func (n Node) HealthURL(port int) string {
	return "http://" + net.JoinHostPort(n.Address, strconv.Itoa(port)) + "/healthz"
}

func (n Node) certificates() string    { return filepath.Join(n.root, "registries") }
func (n Node) networks() string        { return filepath.Join(n.root, "networks") }
func (n Node) podLogs() string         { return filepath.Join(n.root, "pods") }
func (n Node) volumePlugins() string   { return filepath.Join(n.root, "volume-plugins") }
func (n Node) containerdRoot() string  { return filepath.Join(n.root, "containerd") }
func (n Node) containerdState() string { return filepath.Join(n.run, "containerd") }

// cgroup is the name of the parent of the cgroups of all Pods of the node, in each hierarchy.
func (n Node) cgroup() string { return fmt.Sprintf("localcluster-%s-%d", n.cluster, n.Number) }

// podResources is the longest name of a socket that the kubelet makes below its root. The last part is random.
const podResources = "pod-resources/4294967295"

// checkDirectory returns an error if the directory of the cluster has too long a name for the sockets of the kubelet.
func (n Node) checkDirectory() error {
	if socket := filepath.Join(n.KubeletRoot(), podResources); len(socket) > maxSocket {
		return fmt.Errorf("the kubelet's socket %s has %d bytes, the kernel allows %d: use a directory with a shorter name for the cluster",
			socket, len(socket), maxSocket)
	}
	return nil
}

func (n Node) makeDirectories() error {
	for _, dir := range []string{
		n.root, n.run, n.networks(), n.podLogs(), n.volumePlugins(), n.KubeletRoot(), filepath.Join(n.certificates(), "_default"),
	} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	// The processes of containers need not be root.
	for dir := n.run; dir != filepath.Dir(runDir); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o711); err != nil { // #nosec G302 -- containers search it
			return err
		}
	}
	return nil
}
