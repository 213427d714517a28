// Command bench measures the controller on a local cluster: how long a new Task
// waits for its signature, how fast a backlog is signed beside a client that
// only writes, and what memory the controller takes. It also measures, without
// a cluster, what a verification takes beside Tekton's, and how fast resources
// are stored in a registry beside tkn and cosign.
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

// run prints what was measured even if something later failed.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	options, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	results := report{Machine: describeMachine()}
	err = measureAlone(ctx, options, &results, stderr)
	if err == nil && options.needsCluster() {
		err = measureOnCluster(ctx, options, &results, stderr)
	}
	return errors.Join(err, results.print(stdout, options.output))
}

// measureAlone does the selected parts that take no cluster.
func measureAlone(ctx context.Context, o options, results *report, stderr io.Writer) (err error) {
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

// measureOnCluster keeps the logs if something failed.
func measureOnCluster(ctx context.Context, o options, results *report, stderr io.Writer) error {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	b, err := start(ctx, dir, o.profiles, log.New(stderr, "", log.Ltime))
	if err == nil {
		err = errors.Join(b.measure(ctx, o, results), b.cluster.Stop())
	}
	if err != nil {
		return fmt.Errorf("%w; logs are kept in %s", err, dir)
	}
	return os.RemoveAll(dir)
}

// measure does the selected parts, one after the other.
func (b *bench) measure(ctx context.Context, o options, results *report) (err error) {
	if o.latency {
		if results.Latency, err = b.measureLatency(ctx, o); err != nil {
			return fmt.Errorf("latency: %w", err)
		}
	}
	if o.backlog {
		if results.Backlog, err = b.measureBacklog(ctx, o); err != nil {
			return fmt.Errorf("backlog: %w", err)
		}
	}
	if o.memory {
		if results.Memory, err = b.measureMemory(ctx, o); err != nil {
			return fmt.Errorf("memory: %w", err)
		}
	}
	return nil
}
