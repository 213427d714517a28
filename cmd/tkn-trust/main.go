// Command tkn-trust is for people who sign and verify Tekton resources outside
// of a cluster. As a plugin of tkn it is also "tkn trust".
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
