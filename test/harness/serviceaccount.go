// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// ServiceAccountConfig returns a client configuration of the controller's
// service account, without a limit on the request rate of the client. The API
// server applies the RBAC of config/ and its own priority and fairness.
func (c *Cluster) ServiceAccountConfig(ctx context.Context) (*rest.Config, error) {
	kubeconfig, err := c.writeServiceAccountKubeconfig(ctx)
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return config, nil
}

// writeServiceAccountKubeconfig writes a kubeconfig with a new token of the
// controller's service account, and returns its path.
func (c *Cluster) writeServiceAccountKubeconfig(ctx context.Context) (string, error) {
	return c.WriteKubeconfigOf(ctx, SystemNamespace, ServiceAccount)
}

// WriteKubeconfigOf writes a kubeconfig with a new token of a service account, and returns
// its path.
func (c *Cluster) WriteKubeconfigOf(ctx context.Context, namespace, serviceAccount string) (string, error) {
	kubeconfig := filepath.Join(c.Dir, namespace+"-"+serviceAccount+".kubeconfig")
	_, err := c.localcluster(ctx, "kubeconfig", "--service-account", namespace+"/"+serviceAccount, "--output", kubeconfig)
	return kubeconfig, err
}
