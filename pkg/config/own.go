// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	chainsconfig "github.com/tektoncd/chains/pkg/config"
)

// exampleKey is configmap.ExampleKey of knative, a package that also has clients. The
// key has no settings.
const exampleKey = "_example"

// ParseBoth reads the data of chains-config and of OwnConfigMap. Our settings are in
// one of them, so that no setting has two values.
func ParseBoth(chains, own map[string]string) (*Config, error) {
	own = maps.Clone(own)
	delete(own, exampleKey)
	if len(own) == 0 {
		return Parse(chains)
	}
	if other := keysThat(own, func(key string) bool { return !ours(key) }); len(other) > 0 {
		return nil, fmt.Errorf("ConfigMap %s has settings of Tekton Chains: %s; set them in %s",
			OwnConfigMap, strings.Join(other, ", "), chainsconfig.ChainsConfig)
	}
	if both := keysThat(chains, ours); len(both) > 0 {
		return nil, fmt.Errorf("ConfigMap %s and ConfigMap %s both have settings of Trusted Resources; remove these from %s: %s",
			OwnConfigMap, chainsconfig.ChainsConfig, chainsconfig.ChainsConfig, strings.Join(both, ", "))
	}
	maps.Copy(own, chains)
	return Parse(own)
}

// keysThat returns the keys for which keep is true, sorted.
func keysThat(data map[string]string, keep func(string) bool) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(data)), func(key string) bool { return !keep(key) })
}
