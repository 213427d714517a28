// Package observe counts what the controller does, through the OpenTelemetry
// meter provider that knative configures from config-observability.
package observe

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Metrics has one method for each thing that is counted.
type Metrics struct {
	signatures   metric.Int64Counter
	failures     metric.Int64Counter
	configErrors metric.Int64Counter
	verified     metric.Int64Counter
	differing    metric.Int64Counter
	stored       metric.Int64Counter
}

// NewMetrics registers the counters with the global meter provider.
func NewMetrics() (*Metrics, error) {
	meter := otel.GetMeterProvider().Meter("github.com/trusted-resources/chains-extension")
	counter := func(name, description string) (metric.Int64Counter, error) {
		c, err := meter.Int64Counter(name, metric.WithDescription(description))
		if err != nil {
			return nil, fmt.Errorf("metric %s: %w", name, err)
		}
		return c, nil
	}
	var r Metrics
	var err error
	if r.signatures, err = counter("trustedresources_signatures", "Signatures written, by kind and reason."); err != nil {
		return nil, err
	}
	if r.failures, err = counter("trustedresources_signing_failures", "Resources that could not be signed or stored, by kind and reason."); err != nil {
		return nil, err
	}
	if r.configErrors, err = counter("trustedresources_config_errors", "ConfigMaps that were refused."); err != nil {
		return nil, err
	}
	if r.verified, err = counter("trustedresources_verifications", "Resources behind runs that were verified for an attestation, by kind, result and reason."); err != nil {
		return nil, err
	}
	if r.differing, err = counter("trustedresources_verification_differences", "Runs whose verification came out otherwise than Tekton's, by kind."); err != nil {
		return nil, err
	}
	if r.stored, err = counter("trustedresources_stored", "Signed resources found in or written to the registry, by kind and whether it was uploaded."); err != nil {
		return nil, err
	}
	return &r, nil
}

// Signed counts one signature written.
func (r *Metrics) Signed(ctx context.Context, kind resource.Kind, reason string) {
	r.signatures.Add(ctx, 1, labels(kind, reason))
}

// Failed counts one resource that could not be signed or stored.
func (r *Metrics) Failed(ctx context.Context, kind resource.Kind, reason string) {
	r.failures.Add(ctx, 1, labels(kind, reason))
}

// ConfigRefused counts one ConfigMap that could not be used.
func (r *Metrics) ConfigRefused(ctx context.Context) { r.configErrors.Add(ctx, 1) }

// Verified counts one resource behind a run.
func (r *Metrics) Verified(ctx context.Context, kind resource.Kind, result, reason string) {
	r.verified.Add(ctx, 1, labels(kind, reason), metric.WithAttributes(attribute.String("result", result)))
}

// Stored counts one resource that the registry has, be it that it was written
// just now.
func (r *Metrics) Stored(ctx context.Context, kind resource.Kind, uploaded bool) {
	r.stored.Add(ctx, 1, metric.WithAttributes(attribute.String("kind", string(kind)), attribute.Bool("uploaded", uploaded)))
}

// Differed counts one run, of kind TaskRun or PipelineRun.
func (r *Metrics) Differed(ctx context.Context, kind string) {
	r.differing.Add(ctx, 1, metric.WithAttributes(attribute.String("kind", kind)))
}

func labels(kind resource.Kind, reason string) metric.AddOption {
	return metric.WithAttributes(attribute.String("kind", string(kind)), attribute.String("reason", reason))
}
