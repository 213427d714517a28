// SPDX-License-Identifier: Apache-2.0

package realnode

import (
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubelet "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"
)

// Server is what the kubelet needs to serve and to authenticate the API server.
type Server struct {
	Port, HealthPort     int
	Cert, Key, ClientCA  string // files
	Registry, PauseImage string // address of the cluster's registry, and the image of each Pod's sandbox
}

// Prepare makes the directories and cgroups of a node, and writes its configuration.
func (n Node) Prepare(s Server) error {
	if err := n.checkDirectory(); err != nil {
		return err
	}
	if err := n.makeDirectories(); err != nil {
		return err
	}
	if err := n.makeCgroups(); err != nil {
		return err
	}
	if err := n.writeContainerdConfig(s.Registry, s.PauseImage); err != nil {
		return err
	}
	config, err := yaml.Marshal(n.kubeletConfig(s))
	if err != nil {
		return err
	}
	return os.WriteFile(n.KubeletConfig(), config, 0o600)
}

func (n Node) kubeletConfig(s Server) kubelet.KubeletConfiguration {
	return kubelet.KubeletConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: kubelet.SchemeGroupVersion.String(), Kind: "KubeletConfiguration"},
		Address:  n.Address, Port: int32(s.Port), // #nosec G115 -- a port
		HealthzBindAddress: n.Address, HealthzPort: new(int32(s.HealthPort)), // #nosec G115 -- a port
		TLSCertFile: s.Cert, TLSPrivateKeyFile: s.Key,
		Authentication: kubelet.KubeletAuthentication{
			X509:      kubelet.KubeletX509Authentication{ClientCAFile: s.ClientCA},
			Webhook:   kubelet.KubeletWebhookAuthentication{Enabled: new(false)},
			Anonymous: kubelet.KubeletAnonymousAuthentication{Enabled: new(false)},
		},
		Authorization:            kubelet.KubeletAuthorization{Mode: kubelet.KubeletAuthorizationModeAlwaysAllow},
		ContainerRuntimeEndpoint: "unix://" + n.Socket(),
		CgroupDriver:             "cgroupfs",
		CgroupRoot:               "/" + n.cgroup(),
		FailCgroupV1:             new(false),
		FailSwapOn:               new(false),
		EnforceNodeAllocatable:   []string{"none"},
		OOMScoreAdj:              new(int32(0)),
		ResolverConfig:           new(""),
		PodLogsDir:               n.podLogs(),
		VolumePluginDir:          n.volumePlugins(),
		MakeIPTablesUtilChains:   new(false),
		// A machine of a developer may be nearly full, and of a large disk one percent is
		// still several gigabytes.
		EvictionHard:                map[string]string{"memory.available": "100Mi", "nodefs.available": "200Mi", "imagefs.available": "200Mi"},
		ImageGCHighThresholdPercent: new(int32(100)),
	}
}
