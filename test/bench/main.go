// Command bench measures the controller on a local cluster: how long a new Task
// waits for its signature, how fast a backlog is signed beside a client that
// only writes, and what memory the controller takes.
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

// run prints what was measured even if something later failed. It then keeps
// the logs, too.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	options, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	b, err := start(ctx, dir, log.New(stderr, "", log.Ltime))
	if err == nil {
		var results report
		results, err = b.measure(ctx, options)
		err = errors.Join(err, results.print(stdout, options.output), b.cluster.Stop())
	}
	if err != nil {
		return fmt.Errorf("%w; logs are kept in %s", err, dir)
	}
	return os.RemoveAll(dir)
}

// measure does the selected parts, one after the other.
func (b *bench) measure(ctx context.Context, o options) (results report, err error) {
	results.Machine = describeMachine()
	if o.latency {
		if results.Latency, err = b.measureLatency(ctx, o); err != nil {
			return results, fmt.Errorf("latency: %w", err)
		}
	}
	if o.backlog {
		if results.Backlog, err = b.measureBacklog(ctx, o); err != nil {
			return results, fmt.Errorf("backlog: %w", err)
		}
	}
	if o.memory {
		if results.Memory, err = b.measureMemory(ctx, o); err != nil {
			return results, fmt.Errorf("memory: %w", err)
		}
	}
	return results, nil
}
