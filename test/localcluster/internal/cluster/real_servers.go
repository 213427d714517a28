// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	_ "embed" // the configuration of the webhook
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/apply"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/hostnetwork"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
)

//go:embed assets/pod-webhook.yaml
var podWebhook []byte

// RegistryCommand is the command of localcluster that serves the registry.
const RegistryCommand = "registry"

// registry returns the spec of the registry, which is this program in a process of its own.
func (r realNodes) registry() (proc.Spec, error) {
	self, err := os.Executable()
	if err != nil {
		return proc.Spec{}, err
	}
	address := r.ports.address("registry")
	spec := r.spec("registry", httpReady("http://"+address+"/v2/", nil),
		RegistryCommand, "--address="+address, "--data="+filepath.Join(r.layout.Dir, "registry"))
	spec.Path = self
	return spec, nil
}

// serve serves the webhook that gives each Pod the network of the host, and registers it.
func (r realNodes) serve(ctx context.Context, applier *apply.Applier) error {
	certificate, err := tls.LoadX509KeyPair(r.pki.ServingCert, r.pki.ServingKey)
	if err != nil {
		return err
	}
	address := r.ports.address("pod-webhook")
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("open the port of the webhook for Pods: %w", err)
	}
	server := &http.Server{
		Handler:           r.podChanges(ctx),
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}},
	}
	go func() { _ = server.ServeTLS(listener, "", "") }() // ends with Close
	context.AfterFunc(ctx, func() { _ = server.Close() })
	objects, err := r.podWebhookObjects("https://" + address + "/")
	if err != nil {
		return err
	}
	return applier.Apply(ctx, objects)
}

// podChanges returns what the webhook does.
func (r realNodes) podChanges(ctx context.Context) hostnetwork.Pods {
	var mu sync.Mutex
	taken := map[int]bool{}
	for _, port := range r.ports {
		taken[port] = true
	}
	return hostnetwork.Pods{
		Env: []corev1.EnvVar{
			{Name: "KUBERNETES_SERVICE_HOST", Value: "127.0.0.1"},
			{Name: "KUBERNETES_SERVICE_PORT", Value: strconv.Itoa(r.ports["kube-apiserver"])},
			{Name: minVersionVariable, Value: minVersionValue},
		},
		FreePort: func() (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return freePort(ctx, taken)
		},
	}
}

// podWebhookObjects returns the configuration of the webhook at a URL.
func (r realNodes) podWebhookObjects(url string) ([]*unstructured.Unstructured, error) {
	objects, err := apply.Decode(podWebhook)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(r.pki.CA)
	if err != nil {
		return nil, err
	}
	for _, object := range objects {
		webhooks, _, err := unstructured.NestedSlice(object.Object, "webhooks")
		if err != nil {
			return nil, err
		}
		for _, webhook := range webhooks {
			if fields, ok := webhook.(map[string]any); ok {
				fields["clientConfig"] = map[string]any{"url": url, "caBundle": base64.StdEncoding.EncodeToString(ca)}
			}
		}
		if err := unstructured.SetNestedSlice(object.Object, webhooks, "webhooks"); err != nil {
			return nil, err
		}
	}
	return objects, nil
}
