// Command bench measures the controller on a local cluster: how long a new Task
// waits for its signature, how fast a backlog is signed beside a client that
// only writes, and what memory the controller takes.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run prints what was measured even if something later failed.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	options, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	b, err := start(ctx, options, stderr)
	if err != nil {
		return err
	}
	defer func() { err = b.stop(err) }()
	results, err := b.measure(ctx)
	if printErr := results.print(stdout, options.output); err == nil {
		err = printErr
	}
	return err
}

// measure does the selected parts, one after the other.
func (b *bench) measure(ctx context.Context) (results report, err error) {
	results.Machine = describeMachine()
	if b.latency {
		if results.Latency, err = b.measureLatency(ctx); err != nil {
			return results, fmt.Errorf("latency: %w", err)
		}
	}
	if b.backlog {
		if results.Backlog, err = b.measureBacklog(ctx); err != nil {
			return results, fmt.Errorf("backlog: %w", err)
		}
	}
	if b.memory {
		if results.Memory, err = b.measureMemory(ctx); err != nil {
			return results, fmt.Errorf("memory: %w", err)
		}
	}
	return results, nil
}
