// SPDX-License-Identifier: Apache-2.0

// Package hostnetwork serves an admission webhook that gives each Pod the network of the host. A real node has no other:
// there are no bridges, no DNS and no Services. Pods of the same Deployment then share all ports, so each Pod gets
// ports of its own.
package hostnetwork

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// Names of ports that programs with Knative serve. These programs can be told to use another port.
const (
	metricsPort = "metrics"
	probesPort  = "probes"
	// metricsVariable is the environment variable of Knative for the port of metrics.
	metricsVariable = "METRICS_PROMETHEUS_PORT"
	// probesFlag is the flag of a program that has a port "probes".
	probesFlag = "--health-port"
)

// Pods changes Pods.
type Pods struct {
	// Env are set in each container, because no Service leads to the API server.
	Env []corev1.EnvVar
	// FreePort returns a port that no server uses, another one at each call.
	FreePort func() (int, error)
}

// change gives a Pod the network of the host.
func (p Pods) change(pod *corev1.Pod) error {
	pod.Spec.HostNetwork = true
	for i := range pod.Spec.InitContainers {
		if err := p.changeContainer(&pod.Spec.InitContainers[i]); err != nil {
			return err
		}
	}
	for i := range pod.Spec.Containers {
		if err := p.changeContainer(&pod.Spec.Containers[i]); err != nil {
			return err
		}
	}
	return nil
}

func (p Pods) changeContainer(c *corev1.Container) error {
	for _, variable := range p.Env {
		setEnv(c, variable)
	}
	for i := range c.Ports {
		port := &c.Ports[i]
		if port.Name == metricsPort || port.Name == probesPort {
			free, err := p.FreePort()
			if err != nil {
				return fmt.Errorf("port %s of container %s: %w", port.Name, c.Name, err)
			}
			port.ContainerPort = int32(free) // #nosec G115 -- a port
		}
		port.HostPort = port.ContainerPort // the API server refuses other values
		switch port.Name {
		case metricsPort:
			setEnv(c, corev1.EnvVar{Name: metricsVariable, Value: strconv.Itoa(int(port.ContainerPort))})
		case probesPort:
			c.Args = append(c.Args, fmt.Sprintf("%s=%d", probesFlag, port.ContainerPort))
		}
	}
	return nil
}

// setEnv sets a variable of a container, in the place of an earlier value.
func setEnv(c *corev1.Container, variable corev1.EnvVar) {
	i := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == variable.Name })
	if i >= 0 {
		c.Env[i] = variable
		return
	}
	c.Env = append(c.Env, variable)
}
