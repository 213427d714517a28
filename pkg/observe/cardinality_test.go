// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/logging"
	knativemetrics "knative.dev/pkg/observability/metrics"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/racedetector"
)

const (
	manyNamespaces = 5000
	manyPolicies   = 100 // in each namespace
	// mostSeries is the limit of OpenTelemetry. One more loses the labels of all that follow.
	mostSeries = 2000
	// longestScrape leaves Prometheus most of its 10 seconds.
	longestScrape = racedetector.Slowdown * 300 * time.Millisecond
)

// Tenants can create many namespaces and policies. No metric loses its labels because of
// them, and a scrape stays short. The test serves the metrics as the controller does.
func TestMetrics_OfManyNamespacesAndPolicies(t *testing.T) {
	url := serveMetrics(t)
	e, err := NewEmitter(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := logging.WithLogger(t.Context(), zap.NewNop().Sugar())
	e.CountFromZero(ctx)
	for _, kind := range resource.Kinds {
		e.Measure(func() (all []Measurement) {
			for i := range manyNamespaces {
				for _, state := range []string{"signed", "unsigned"} {
					all = append(all, ResourceCount(fmt.Sprint("ns-", i), string(kind), state, i%2 == 0, 1))
				}
			}
			return all
		})
	}
	for i := range manyNamespaces {
		failed := Verified{
			Run: &corev1.ObjectReference{Kind: "TaskRun", Namespace: fmt.Sprint("ns-", i)}, Kind: resource.Task,
			Result: "FAILED", Reason: "SignatureInvalid", Mode: "enforce", Failed: true,
		}
		for p := range manyPolicies {
			failed.Policies = append(failed.Policies, PolicyOutcome{Name: fmt.Sprint("policy-", p), Mode: "enforce", Failed: true})
		}
		e.Emit(ctx, failed)
	}
	series, shortest := map[string]int{}, time.Hour
	for range 5 {
		began := processorTime(t)
		scraped := scrape(t, url)
		shortest = min(shortest, processorTime(t)-began)
		series = seriesOf(scraped)
		if strings.Contains(scraped, "otel_metric_overflow") {
			t.Fatal("OpenTelemetry has dropped the labels of series")
		}
	}
	if shortest > longestScrape {
		t.Errorf("a scrape took %v, want at most %v", shortest, longestScrape)
	}
	for _, bounded := range []string{"trustedresources_resources", "trustedresources_verification_failures_total", "trustedresources_policy_violations_total"} {
		if n := series[bounded]; n < maxSeries || n > mostSeries {
			t.Errorf("%s has %d series, want %d to %d", bounded, n, maxSeries, mostSeries)
		}
	}
	t.Logf("scrape: %v, series: %v", shortest, series)
}

// processorTime returns the time that this process has used the processors. Other tests use
// them at the same time, so the time on the clock says little.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// serveMetrics serves the metrics as knative does in the controller, and returns the address.
func serveMetrics(t *testing.T) (url string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	provider, err := knativemetrics.NewMeterProvider(t.Context(), knativemetrics.Config{Protocol: knativemetrics.ProtocolPrometheus, Endpoint: address})
	if err != nil {
		t.Fatal(err)
	}
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(provider)
	t.Cleanup(func() {
		otel.SetMeterProvider(before)
		if err := provider.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return "http://" + address + "/metrics"
}

// scrape returns the metrics. The server may have just started.
func scrape(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	var response *http.Response
	for deadline := time.Now().Add(10 * time.Second); ; {
		response, err = http.DefaultClient.Do(request)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	defer response.Body.Close() //nolint:errcheck // the body was read
	var body bytes.Buffer
	if _, err := io.Copy(&body, response.Body); err != nil {
		t.Fatal(err)
	}
	return body.String()
}

// seriesOf counts the series of each metric.
func seriesOf(metrics string) map[string]int {
	series := map[string]int{}
	for line := range strings.Lines(metrics) {
		if name, _, found := strings.Cut(line, "{"); found && strings.HasPrefix(name, "trustedresources_") {
			series[name]++
		}
	}
	return series
}
