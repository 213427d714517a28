// SPDX-License-Identifier: Apache-2.0

// Package webhook is the admission webhook: it does to the writes of others what
// pkg/admission decides. It has no signing key and reads no Secret but that of its own
// certificate.
package webhook

import (
	"context"
	"flag"

	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection"
	"knative.dev/pkg/injection/sharedmain"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/signals"
	knative "knative.dev/pkg/webhook"
	"knative.dev/pkg/webhook/certificates"
)

const (
	// component names the leases, and the log level in the ConfigMap config-logging.
	component = "trusted-resources-webhook"
	// service is the Service in config/webhook. The certificate is for this name.
	service = "trusted-resources-webhook"
	// certificateName is the Secret in config/webhook.
	certificateName = "trusted-resources-webhook-certs"
	// controllerAccount is the service account of the controller, in the same namespace.
	controllerAccount = "tekton-chains-controller"

	defaultPort = 8443
)

// Main runs the webhook until a signal arrives, and returns the exit code.
func Main() int {
	healthPort := flag.Int("health-port", injection.HealthCheckDefaultPort, "Port of the health probes.")
	cfg := injection.ParseAndGetRESTConfigOrDie() // calls flag.Parse
	ctx := knative.WithOptions(signals.NewContext(), knative.Options{
		ServiceName: service, SecretName: certificateName, Port: knative.PortFromEnv(defaultPort),
	})
	injection.Default.RegisterInformerFactory(withCertificateOnly)
	ready := &readiness{}
	go func() {
		if err := ready.serve(ctx, *healthPort); err != nil {
			logging.FromContext(ctx).Fatalw("Health probes: choose another --health-port", "error", err)
		}
	}()
	construct := func(ctx context.Context, cmw configmap.Watcher) *controller.Impl {
		impl, err := newController(ctx, cmw, ready)
		if err != nil {
			logging.FromContext(ctx).Fatalw("Cannot construct the webhook", "error", err)
		}
		return impl
	}
	sharedmain.MainWithConfig(sharedmain.WithHealthProbesDisabled(ctx), component, cfg, certificates.NewController, construct)
	return 0
}
