// SPDX-License-Identifier: Apache-2.0

// Command bench measures the controller on a local cluster:
//   - latency: how long a new Task waits for its signature;
//   - backlog: how fast existing Tasks are signed, compared with a bare client
//     that only writes;
//   - memory: how much memory the controller uses;
//   - rotation: how long a rotation of a KeyRing takes, and how fast resources are signed
//     again, compared with the bare client. Only on request: --rotation;
//   - gate: how long the gate holds a Pod, how many it decides about in a second, and
//     the memory with finished Pods. Only on request: --gate;
//   - cost: how fast existing Tasks are signed with all metrics, traces and audit records,
//     compared with none of them. Only on request: --cost;
//   - webhook: what our webhook adds to requests. Only on request: --webhook;
//   - soak: whether hostile tenants can slow down or stop the controller. Only
//     on request: --soak.
//
// Two measurements run without a cluster:
//   - verification: how long one verification takes, compared with Tekton's;
//   - storage: how fast resources are stored in a registry, compared with tkn and
//     cosign.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/trusted-resources/chains-extension/test/harness"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run prints the report even after an error, with the results up to the error.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	options, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	results := report{Machine: describeMachine()}
	err = measureWithoutCluster(ctx, options, &results, stderr)
	if err == nil && options.needsCluster() {
		err = measureOnCluster(ctx, options, &results, stderr)
	}
	return errors.Join(err, results.print(stdout, options.output))
}

// measureWithoutCluster runs the selected measurements that need no cluster.
func measureWithoutCluster(ctx context.Context, o options, results *report, stderr io.Writer) (err error) {
	if o.verification {
		if results.Verification, err = measureVerification(ctx, o); err != nil {
			return fmt.Errorf("verification: %w", err)
		}
	}
	if o.storage {
		if results.Storage, err = measureStorage(ctx, o, stderr); err != nil {
			return fmt.Errorf("storage: %w", err)
		}
	}
	return nil
}

// measureOnCluster runs the other measurements on a new cluster. It keeps the
// cluster's directory after an error, for the logs in it.
func measureOnCluster(ctx context.Context, o options, results *report, stderr io.Writer) error {
	if o.gate {
		if err := harness.HurryTekton(); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	b, err := start(ctx, dir, o.profiles, log.New(stderr, "", log.Ltime))
	if err == nil {
		err = errors.Join(b.measure(ctx, o, results), b.cluster.Stop())
	}
	if err != nil {
		return fmt.Errorf("%w; see the logs in %s", err, dir)
	}
	return os.RemoveAll(dir)
}

// measure runs the selected measurements one after the other. Memory is the last of those
// that run without being asked for, because it does not delete all of its Tasks.
func (b *bench) measure(ctx context.Context, o options, results *report) error {
	for _, m := range []struct {
		name     string
		selected bool
		run      func() error
	}{
		{"latency", o.latency, func() (err error) { results.Latency, err = b.measureLatency(ctx, o); return err }},
		{"backlog", o.backlog, func() (err error) { results.Backlog, err = b.measureBacklog(ctx, o); return err }},
		{"memory", o.memory, func() (err error) { results.Memory, err = b.measureMemory(ctx, o); return err }},
		{"gate", o.gate, func() (err error) { results.Gate, err = b.measureGate(ctx, o); return err }},
		{"rotation", o.rotation, func() (err error) { results.Rotation, err = b.measureRotation(ctx, o); return err }},
		{"policies", o.clusterPolicies, func() (err error) { results.Policies, err = b.measurePolicies(ctx, o); return err }},
		{"cost", o.cost, func() (err error) { results.Cost, err = b.measureCost(ctx, o); return err }},
		{"webhook", o.webhook, func() (err error) { results.Webhook, err = b.measureWebhook(ctx, o); return err }},
		{"soak", o.soak, func() (err error) { results.Soak, err = b.measureSoak(ctx, o); return err }},
	} {
		if !m.selected {
			continue
		}
		if err := m.run(); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	if results.Soak != nil && len(results.Soak.Faults) > 0 {
		return errSoak // the report lists the faults
	}
	return nil
}
