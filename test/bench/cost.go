// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"time"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// cost compares how fast a backlog is signed with everything turned on that reports on
// the work, and with all of that turned off.
type cost struct {
	Count       int         `json:"count"`
	Concurrency int         `json:"concurrency"`
	Rounds      []costRound `json:"rounds"`
	// MedianRatio is the median of the rounds' ratios, as the function median defines it.
	MedianRatio float64 `json:"medianRatio"`
}

// costRound is one pass of the controller with each configuration.
type costRound struct {
	On  pass `json:"on"`
	Off pass `json:"off"`
	// Ratio is the rate with everything on, divided by the rate with everything off.
	Ratio float64 `json:"ratio"`
}

// scrapeInterval is that of Prometheus in most clusters, or shorter.
const scrapeInterval = 5 * time.Second

// reporting is a configuration of what reports on the work.
type reporting struct{ chains, observability map[string]string }

func (b *bench) measureCost(ctx context.Context, o options) (*cost, error) {
	// Collectors and webhooks are elsewhere in a cluster, so this one does little.
	accepts := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer accepts.Close()
	on := reporting{
		chains: map[string]string{
			"trustedresources.audit.sinks": "stdout,file,webhook", "trustedresources.audit.on-failure": "block",
			"trustedresources.audit.file": filepath.Join(b.cluster.Dir, "audit", "audit.log"), "trustedresources.audit.webhook-url": accepts.URL,
		},
		observability: map[string]string{
			"metrics-protocol": "prometheus",
			"tracing-protocol": "http/protobuf", "tracing-endpoint": accepts.URL + "/v1/traces", "tracing-sampling-rate": "1",
		},
	}
	off := reporting{
		chains:        map[string]string{"trustedresources.audit.sinks": "none"},
		observability: map[string]string{"metrics-protocol": "none", "tracing-protocol": "none"},
	}
	result := &cost{Count: o.count, Concurrency: o.concurrency}
	var ratios []float64
	for i := range o.rounds {
		var r costRound
		passes := []func() error{
			func() (err error) { r.On, err = b.reportingPass(ctx, o, on, scrape); return err },
			func() (err error) { r.Off, err = b.reportingPass(ctx, o, off, alone); return err },
		}
		if i%2 == 1 {
			slices.Reverse(passes) // so that a slow change of the machine's speed favours neither
		}
		for _, pass := range passes {
			if err := pass(); err != nil {
				return result, err
			}
		}
		r.Ratio = r.On.PerSecond / r.Off.PerSecond
		b.log.Printf("round %d of %d: everything on %.0f/s, off %.0f/s, ratio %.2f", i+1, o.rounds, r.On.PerSecond, r.Off.PerSecond, r.Ratio)
		result.Rounds = append(result.Rounds, r)
		ratios = append(ratios, r.Ratio)
		result.MedianRatio = median(ratios)
	}
	return result, nil
}

// reportingPass measures one pass of a controller.
func (b *bench) reportingPass(ctx context.Context, o options, with reporting, beside beside) (result pass, err error) {
	settings := harness.SignAll()
	maps.Copy(settings, with.chains)
	restore, err := b.cluster.SetConfigMap(ctx, harness.SystemNamespace, harness.ConfigObservability, with.observability)
	if err != nil {
		return pass{}, err
	}
	defer func() {
		err = errors.Join(err, restore(context.WithoutCancel(ctx)), b.cluster.Configure(context.WithoutCancel(ctx), harness.SignAll()))
	}()
	if err := b.cluster.Configure(ctx, settings); err != nil {
		return pass{}, err
	}
	var r round
	err = b.controllerPassBeside(ctx, o, &r, beside)
	return r.Controller, err
}

// scrape reads the metrics of a controller again and again, as Prometheus does.
func scrape(ctx context.Context, controller *harness.Controller) error {
	ticker := time.NewTicker(scrapeInterval)
	defer ticker.Stop()
	for {
		if err := scrapeOnce(ctx, controller); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func scrapeOnce(ctx context.Context, controller *harness.Controller) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, controller.MetricsURL, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	err = errors.Join(err, response.Body.Close())
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", request.URL, response.Status)
	}
	return err
}
