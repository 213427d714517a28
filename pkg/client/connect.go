// SPDX-License-Identifier: Apache-2.0

package client

import (
	"time"

	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// requestTimeout bounds one request of a command.
const requestTimeout = 30 * time.Second

// Connection says which cluster a command talks to, and as whom.
type Connection struct {
	// Kubeconfig is a file. Without one, the rules of kubectl apply: the variable
	// KUBECONFIG, the file in the home directory, the account of the Pod.
	Kubeconfig string
	// Context is a context in the file. Without one, the current context counts.
	Context string
}

// Config returns the configuration of clients for the connection.
func (c Connection) Config() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.Kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: c.Context}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
	if err != nil {
		return nil, err
	}
	config.Timeout = requestTimeout
	return config, nil
}

// NewSecrets returns a client for the Secrets of a namespace.
func NewSecrets(config *rest.Config, namespace string) (corev1.SecretInterface, error) {
	client, err := corev1.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return client.Secrets(namespace), nil
}
