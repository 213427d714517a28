// SPDX-License-Identifier: Apache-2.0

// Command vault is HashiCorp Vault with the transit engine and in-memory storage: a KMS
// for tests. It leaves out the other engines, for which Vault's own program needs 1000
// more packages.
//
// The server listens on a free port of 127.0.0.1. When it is ready, it prints one line
// of JSON on stdout, see ready. The log goes to stderr.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/vault/vault"
)

// ready is the line that tells the caller how to use the server.
type ready struct {
	Address   string `json:"address"`
	Token     string `json:"token"`     // the root token
	UnsealKey string `json:"unsealKey"` // unseals the server after PUT /v1/sys/seal
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "vault:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	core, keys, err := unsealed(ctx)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	keys.Address = "http://" + listener.Addr().String()
	if err := json.NewEncoder(os.Stdout).Encode(keys); err != nil {
		return err
	}
	return errors.Join(serve(ctx, listener, core), core.Shutdown())
}

// serve answers requests until the context ends.
func serve(ctx context.Context, listener net.Listener, core *vault.Core) error {
	server := &http.Server{Handler: handler(core), ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
