// SPDX-License-Identifier: Apache-2.0

package realnode

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	kubelet "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"
)

func TestNew_SeparatesNodesAndClusters(t *testing.T) {
	a, b, other := New("/a", 1), New("/a", 2), New("/b", 1)
	for name, of := range map[string]func(Node) string{
		"socket": Node.Socket, "cgroup": Node.cgroup, "root": Node.KubeletRoot, "state": Node.containerdState,
	} {
		if of(a) == of(b) || of(a) == of(other) {
			t.Errorf("two nodes have the same %s %s", name, of(a))
		}
	}
	if long := New("/"+strings.Repeat("long/", 100), MaxNodes).Socket(); len(long) > maxSocket {
		t.Errorf("the socket %s has %d bytes, the kernel allows %d", long, len(long), maxSocket)
	}
}

func TestCheckDirectory_RefusesLongNames(t *testing.T) {
	if err := New("/tmp/cluster-1234567890", 1).checkDirectory(); err != nil {
		t.Error(err)
	}
	if err := New("/"+strings.Repeat("long/", 20), 1).checkDirectory(); err == nil || !strings.Contains(err.Error(), "shorter name") {
		t.Errorf("got error %v, want one that says what to do", err)
	}
}

func TestKubeletConfig_IsUnderstood(t *testing.T) {
	text, err := yaml.Marshal(New("/a", 1).kubeletConfig(Server{Port: 1, HealthPort: 2}))
	if err != nil {
		t.Fatal(err)
	}
	var config kubelet.KubeletConfiguration
	if err := yaml.UnmarshalStrict(text, &config); err != nil {
		t.Fatal(err)
	}
	if config.Address != "127.0.0.1" || config.HealthzBindAddress != "127.0.0.1" || config.ReadOnlyPort != 0 {
		t.Errorf("the kubelet listens on %s, %s and read-only port %d", config.Address, config.HealthzBindAddress, config.ReadOnlyPort)
	}
	if *config.Authentication.Anonymous.Enabled || *config.FailCgroupV1 || *config.FailSwapOn {
		t.Errorf("false values are lost: %s", text)
	}
}

func TestParseMounts_ReadsEscapes(t *testing.T) {
	got := parseMounts("36 35 98:0 / /mnt/with\\040space rw,noatime master:1 - ext3 /dev/root rw\n" +
		"37 35 0:1 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\nno mount\n")
	want := []mount{{"/mnt/with space", "ext3"}, {"/sys/fs/cgroup/cpu", "cgroup"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestIsShim_OnlyOfTheSocket(t *testing.T) {
	socket := New("/a", 1).Socket()
	for _, tc := range []struct {
		command string
		want    bool
	}{
		{"/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id x -address " + socket, true},
		{"/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id x -address /run/containerd/containerd.sock", false},
		{"/usr/bin/containerd-shim-runc-v2 -address", false},
		{"/usr/bin/vi -address " + socket, false},
		{"", false},
	} {
		if got := isShim(bytes.Split([]byte(tc.command), []byte(" ")), socket); got != tc.want {
			t.Errorf("isShim(%q) = %v, want %v", tc.command, got, tc.want)
		}
	}
}

func TestCheckMachine_NamesThePackages(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	missing := MissingPackages()
	if !slices.Contains(missing, "containerd") || !slices.Contains(missing, "runc") {
		t.Errorf("without programs in PATH, the missing packages are %q", missing)
	}
	err := CheckMachine()
	if !errors.Is(err, ErrRequirements) || !strings.Contains(err.Error(), "--node kwok") {
		t.Errorf("got error %v, want one that says what to do", err)
	}
}

func TestCleanUp_NeedsNoCluster(t *testing.T) {
	if err := CleanUp(t.Context(), t.TempDir()); err != nil {
		t.Error(err)
	}
}
