// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"maps"
	"strings"

	"go.uber.org/zap"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	"knative.dev/pkg/injection/sharedmain"
	"knative.dev/pkg/logging"
)

// withFullLog returns a context with the logging configuration in the ConfigMap
// config-logging, but without sampling. Knative samples unless the ConfigMap says
// "sampling": null, and a sampled log lacks signatures.
func withFullLog(ctx context.Context, cfg *rest.Config) (context.Context, error) {
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	found, err := sharedmain.GetLoggingConfig(context.WithValue(ctx, kubeclient.Key{}, kube))
	if err != nil {
		return nil, fmt.Errorf("reading ConfigMap %s: %w", logging.ConfigMapName(), err)
	}
	full, err := unsampled(found.LoggingConfig)
	if err != nil {
		log.Printf("ConfigMap %s: zap-logger-config is not usable, logging with the defaults: %v", logging.ConfigMapName(), err)
	}
	return logging.WithConfig(ctx, &logging.Config{LoggingConfig: full, LoggingLevel: found.LoggingLevel}), nil
}

// unsampledDefaults configures knative's defaults without sampling.
const unsampledDefaults = `{"sampling":null}`

// unsampled returns a zap-logger-config without sampling. For a configuration from
// which no logger can be built it returns an error and the defaults, because
// knative would use its defaults, with sampling.
func unsampled(zapConfig string) (string, error) {
	if zapConfig == "" {
		return unsampledDefaults, nil
	}
	settings := map[string]json.RawMessage{}
	if err := json.Unmarshal([]byte(zapConfig), &settings); err != nil {
		return unsampledDefaults, err
	}
	// encoding/json matches names without regard to case.
	maps.DeleteFunc(settings, func(name string, _ json.RawMessage) bool { return strings.EqualFold(name, "sampling") })
	settings["sampling"] = json.RawMessage("null")
	full, err := json.Marshal(settings)
	if err == nil {
		err = buildable(full)
	}
	if err != nil {
		return unsampledDefaults, err
	}
	return string(full), nil
}

// buildable returns why no logger can be built from a configuration.
func buildable(zapConfig []byte) error {
	parsed := zap.NewProductionConfig() // the values that the configuration does not set
	if err := json.Unmarshal(zapConfig, &parsed); err != nil {
		return err
	}
	_, err := parsed.Build()
	return err
}
