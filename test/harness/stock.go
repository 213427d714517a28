// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// StockChains is the manifest of a stock Tekton Chains with another namespace and our
// image in its Deployment, as the Tekton operator makes it.
type StockChains struct {
	Namespace  string
	Manifest   string
	Deployment *appsv1.Deployment
}

const (
	stockImage = "image: ko://github.com/tektoncd/chains/cmd/controller\n"
	ourImage   = "image: ko://github.com/trusted-resources/chains-extension/cmd/controller\n"
)

// NewStockChains reads the manifest from the Go module of Chains.
func NewStockChains(ctx context.Context, namespace string) (*StockChains, error) {
	dir, err := ModuleDir(ctx, ModuleChains)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "config", "*.yaml"))
	if err != nil {
		return nil, err
	}
	var documents []string
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		documents = append(documents, string(content))
	}
	s := &StockChains{Namespace: namespace}
	s.Manifest = strings.NewReplacer(
		"namespace: tekton-chains\n", "namespace: "+namespace+"\n",
		"  name: tekton-chains\n", "  name: "+namespace+"\n", // the Namespace itself
		stockImage, ourImage,
	).Replace(strings.Join(documents, "\n---\n"))
	return s, s.findDeployment()
}

func (s *StockChains) findDeployment() error {
	for document := range strings.SplitSeq(s.Manifest, "\n---\n") {
		var d appsv1.Deployment
		if err := yaml.Unmarshal([]byte(document), &d); err != nil {
			return err
		}
		if d.Kind != "Deployment" {
			continue
		}
		if s.Deployment != nil {
			return errors.New("the manifest of Chains has two Deployments, expected one")
		}
		s.Deployment = &d
	}
	if s.Deployment == nil || !strings.Contains(s.Manifest, ourImage) {
		return errors.New("the manifest of Chains has no Deployment with the image of its controller")
	}
	return nil
}

// AddStock starts the controller as the Deployment of a stock Chains does: with its
// service account, arguments and environment. What a Pod has and a process has not is
// given by flags and variables: the identity, the volume with the signing secret, and
// ports that no other process uses.
func (c *Cluster) AddStock(ctx context.Context, s *StockChains, name, secretsDir string) (*Controller, error) {
	kubeconfig, err := c.WriteKubeconfigOf(ctx, s.Namespace, s.Deployment.Spec.Template.Spec.ServiceAccountName)
	if err != nil {
		return nil, err
	}
	container := s.Deployment.Spec.Template.Spec.Containers[0]
	env, err := environmentOf(container, s.Namespace)
	if err != nil {
		return nil, err
	}
	how, err := c.invocation(ctx, kubeconfig, secretsDir, env, container.Args)
	if err != nil {
		return nil, err
	}
	return c.addController(ctx, name, how)
}

// environmentOf returns the environment of a container in a namespace.
func environmentOf(container corev1.Container, namespace string) ([]string, error) {
	var env []string
	for _, variable := range container.Env {
		value := variable.Value
		if from := variable.ValueFrom; from != nil {
			if from.FieldRef == nil || from.FieldRef.FieldPath != "metadata.namespace" {
				return nil, fmt.Errorf("the variable %s of the container %s has the source %+v, expected the namespace", variable.Name, container.Name, from)
			}
			value = namespace
		}
		env = append(env, variable.Name+"="+value)
	}
	return env, nil
}
