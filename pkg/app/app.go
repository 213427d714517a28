// SPDX-License-Identifier: Apache-2.0

// Package app wires the controller: flags, clients, informers, probes and
// controllers. No other package constructs these.
package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	_ "github.com/sigstore/cosign/v2/pkg/providers/all" // identity providers for Chains' keyless signing
	pipelineclient "github.com/tektoncd/pipeline/pkg/client/injection/client"
	policyinformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1alpha1/verificationpolicy"
	"go.uber.org/zap"
	"k8s.io/client-go/metadata"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	namespaceinformer "knative.dev/pkg/client/injection/kube/informers/core/v1/namespace"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection"
	"knative.dev/pkg/injection/sharedmain"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/signals"
	"knative.dev/pkg/system"

	"github.com/trusted-resources/chains-extension/pkg/attestation"
	"github.com/trusted-resources/chains-extension/pkg/controllers/informers"
	"github.com/trusted-resources/chains-extension/pkg/controllers/runs"
	"github.com/trusted-resources/chains-extension/pkg/controllers/signing"
	"github.com/trusted-resources/chains-extension/pkg/controllers/state"
	"github.com/trusted-resources/chains-extension/pkg/controllers/storing"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// component names the leases, as Chains does, so that a stock Chains and this
// controller never both run Chains' reconcilers.
const component = "watcher"

// Main runs the controller until a signal arrives, and returns the exit code.
func Main() int {
	options, cfg := parseFlags()
	ctx, stop := context.WithCancelCause(signals.NewContext())
	defer stop(nil)
	ctx, err := withFullLog(ctx, cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, "controller:", err)
		return 1
	}
	a := &app{options: options}
	go func() {
		if err := a.serveProbes(ctx); err != nil {
			stop(fmt.Errorf("health probes: %w; choose another --health-port", err))
		}
	}()
	// sharedmain's own probes have a fixed port.
	sharedmain.MainWithConfig(sharedmain.WithHealthProbesDisabled(ctx), component, cfg, a.controllers()...)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		fmt.Fprintln(os.Stderr, "controller:", cause)
		return 1
	}
	return 0
}

// app is the controller before and while it runs.
type app struct {
	options  Options
	handlers informers.Handlers
	once     sync.Once
	shared   *shared // made by the first constructor
}

// shared is what all controllers use.
type shared struct {
	state   *state.State
	emitter *observe.Emitter
	store   *storeOfConfig
	objects objects
	patcher patcher
}

// controllers returns the constructors of all controllers. Knative calls them one
// after the other, with clients and informers in the context, and starts the
// informers afterwards.
func (a *app) controllers() []injection.ControllerConstructor {
	var constructors []injection.ControllerConstructor
	for _, kind := range resource.Kinds {
		constructors = append(constructors,
			a.constructor(func(ctx context.Context, _ configmap.Watcher, s *shared) (*controller.Impl, error) {
				return signing.NewController(ctx, kind, s.state, &a.handlers, s.emitter, s.patcher)
			}),
			a.constructor(func(ctx context.Context, _ configmap.Watcher, s *shared) (*controller.Impl, error) {
				return storing.NewController(ctx, kind, s.state, &a.handlers, s.emitter, s.objects, s.store.load)
			}))
	}
	if a.options.SignRuns {
		constructors = append(constructors, a.runControllers()...)
	}
	return constructors
}

// constructor ends the process if the controller cannot be constructed.
func (a *app) constructor(
	construct func(context.Context, configmap.Watcher, *shared) (*controller.Impl, error),
) injection.ControllerConstructor {
	return func(ctx context.Context, cmw configmap.Watcher) *controller.Impl {
		a.once.Do(func() { a.shared = a.newShared(ctx, cmw) })
		impl, err := construct(ctx, cmw, a.shared)
		if err != nil {
			logging.FromContext(ctx).Fatalw("Cannot construct a controller", zap.Error(err))
		}
		return impl
	}
}

// newShared constructs what all controllers use, or ends the process.
func (a *app) newShared(ctx context.Context, cmw configmap.Watcher) *shared {
	if err := checkOrdinal(ctx); err != nil {
		logging.FromContext(ctx).Fatalw("Cannot share the work between replicas", zap.Error(err))
	}
	kube := kubeclient.Get(ctx)
	events, err := observe.NewEvents(ctx, kube.CoreV1(), system.Namespace())
	if err != nil {
		logging.FromContext(ctx).Fatalw("Cannot set up metrics", zap.Error(err))
	}
	emitter, err := observe.NewEmitter(events)
	if err != nil {
		logging.FromContext(ctx).Fatalw("Cannot set up metrics", zap.Error(err))
	}
	policies, namespaces := policyinformer.Get(ctx), namespaceinformer.Get(ctx)
	s := state.New(ctx, state.Sources{
		SecretsDir:   a.options.SecretsDir,
		Scope:        a.options.Namespaces,
		Namespaces:   namespaces.Lister(),
		Policies:     policies.Lister(),
		LivePolicies: pipelineclient.Get(ctx).TektonV1alpha1(),
		Secrets:      secrets{kube.CoreV1()},
		Emitter:      emitter,
	})
	s.WatchConfig(ctx, cmw)
	err = errors.Join(
		informers.Summarize(ctx),
		s.WatchPolicies(&a.handlers, policies.Informer()),
		s.WatchNamespaces(&a.handlers, namespaces.Informer()),
		s.WatchRelease(ctx, &a.handlers, kube, a.options.TektonNamespace),
	)
	if err != nil {
		logging.FromContext(ctx).Fatalw("Cannot watch the cluster", zap.Error(err))
	}
	return &shared{
		state: s, emitter: emitter, store: newStoreOfConfig(kube, s.Config),
		objects: objects{pipelineclient.Get(ctx)}, patcher: patcher{metadata.NewForConfigOrDie(injection.GetConfig(ctx))},
	}
}

// runControllers returns the constructors of Chains' controllers, and registers
// our report with Chains: Chains' registry of payloads has no lock, so this must
// happen before the controllers start.
func (a *app) runControllers() []injection.ControllerConstructor {
	reporter := &runs.Reporter{}
	options := func(s *shared) runs.Options {
		return runs.Options{Signers: s.state, Emitter: s.emitter, Namespaces: a.options.Namespaces}
	}
	attestation.Register(reporter.Report)
	return []injection.ControllerConstructor{
		a.constructor(func(ctx context.Context, cmw configmap.Watcher, s *shared) (*controller.Impl, error) {
			err := reporter.Start(ctx, runs.Inputs{
				Config: s.state.Config, Keys: s.state.Keys, Store: s.store.load,
				Objects: s.objects, Policies: s.state.PolicySources(), Handlers: &a.handlers, Emitter: s.emitter,
			})
			return runs.NewTaskRunController(ctx, cmw, options(s)), err
		}),
		a.constructor(func(ctx context.Context, cmw configmap.Watcher, s *shared) (*controller.Impl, error) {
			return runs.NewPipelineRunController(ctx, cmw, options(s)), nil
		}),
	}
}
