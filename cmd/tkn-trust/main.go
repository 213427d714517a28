// SPDX-License-Identifier: Apache-2.0

// Command tkn-trust signs and verifies Tekton resources without a cluster. tkn
// runs it as its plugin "tkn trust".
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/trusted-resources/chains-extension/pkg/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.New(os.Stdout, os.Stderr).Run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
