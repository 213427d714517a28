// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

// unsealed returns a new Vault that is initialized and unsealed.
func unsealed(ctx context.Context) (*vault.Core, ready, error) {
	logger := hclog.New(&hclog.LoggerOptions{Name: "vault", Level: hclog.Warn})
	storage, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return nil, ready{}, err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:        storage,
		StorageType:     "inmem",
		Logger:          logger,
		DisableMlock:    true, // mlock needs privileges
		LogicalBackends: map[string]logical.Factory{"transit": transit.Factory},
		BuiltinRegistry: noPlugins{},
	})
	if err != nil {
		return nil, ready{}, err
	}
	made, err := core.Initialize(ctx, &vault.InitParams{
		BarrierConfig:  &vault.SealConfig{SecretShares: 1, SecretThreshold: 1},
		RecoveryConfig: &vault.SealConfig{},
	})
	if err != nil {
		return nil, ready{}, fmt.Errorf("initializing: %w", err)
	}
	// Encode the key first, because Unseal overwrites it.
	keys := ready{Token: made.RootToken, UnsealKey: base64.StdEncoding.EncodeToString(made.SecretShares[0])}
	if done, err := core.Unseal(made.SecretShares[0]); err != nil || !done {
		return nil, ready{}, fmt.Errorf("unsealing: done %t, error %w", done, err)
	}
	return core, keys, nil
}

// handler returns Vault's HTTP API.
func handler(core *vault.Core) http.Handler {
	return vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{}})
}

// noPlugins is a plugin registry without plugins. The transit engine is not a plugin.
type noPlugins struct{}

func (noPlugins) Contains(string, consts.PluginType) bool { return false }

func (noPlugins) Get(string, consts.PluginType) (func() (any, error), bool) { return nil, false }

func (noPlugins) Keys(consts.PluginType) []string { return nil }

func (noPlugins) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }

func (noPlugins) DeprecationStatus(string, consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Unknown, false
}
