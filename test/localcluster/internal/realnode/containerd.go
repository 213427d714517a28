// SPDX-License-Identifier: Apache-2.0

package realnode

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// containerdConfig has these parameters: root, state, socket, image of the sandbox, address, directory of networks,
// directory of registries.
//
// Without restrict_oom_score_adj, runc fails in a user's session that may not lower the score, with "can't get final
// child's PID from pipe: EOF".
const containerdConfig = `version = 2
root = %[1]s
state = %[2]s

[grpc]
address = %[3]s

[plugins."io.containerd.internal.v1.opt"]
path = %[8]s

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = %[4]s
restrict_oom_score_adj = true
disable_apparmor = true
stream_server_address = %[5]s
stream_server_port = "0"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
Root = %[9]s

[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = %[6]s
bin_dir = %[6]s

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = %[7]s
`

// network makes the node ready. No Pod uses it: all Pods have the network of the host.
const network = `{"cniVersion": "1.0.0", "name": "loopback", "plugins": [{"type": "loopback"}]}` + "\n"

// registries leads each pull, of any registry, to the registry of the cluster.
const registries = `server = "http://%[1]s"

[host."http://%[1]s"]
capabilities = ["pull", "resolve"]
`

// Containerd returns the path of containerd, or its name if it is not installed.
func Containerd() string {
	if path, err := exec.LookPath(containerd); err == nil {
		return path
	}
	return containerd
}

// ContainerdReady returns nil if containerd accepts connections.
func (n Node) ContainerdReady(ctx context.Context, _ time.Time) error {
	connection, err := (&net.Dialer{}).DialContext(ctx, "unix", n.Socket())
	if err != nil {
		return err
	}
	return connection.Close()
}

// writeContainerdConfig writes the configuration of containerd. registry is the address of the cluster's registry.
func (n Node) writeContainerdConfig(registry, sandboxImage string) error {
	texts := []string{
		n.containerdRoot(), n.containerdState(), n.Socket(), sandboxImage, n.Address, n.networks(), n.certificates(),
		filepath.Join(n.root, "opt"), filepath.Join(n.run, runc),
	}
	parameters := make([]any, len(texts))
	for i, text := range texts {
		parameters[i] = strconv.Quote(text)
	}
	for file, text := range map[string]string{
		n.ContainerdConfig():                                      fmt.Sprintf(containerdConfig, parameters...),
		filepath.Join(n.networks(), "loopback.conflist"):          network,
		filepath.Join(n.certificates(), "_default", "hosts.toml"): fmt.Sprintf(registries, registry),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
