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
	chainsconfig "github.com/tektoncd/chains/pkg/config"
	pipelineclient "github.com/tektoncd/pipeline/pkg/client/injection/client"
	taskruninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/taskrun"
	"go.uber.org/zap"
	"k8s.io/utils/clock"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection"
	"knative.dev/pkg/injection/sharedmain"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/signals"
	"knative.dev/pkg/system"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/attestation"
	"github.com/trusted-resources/chains-extension/pkg/auditlog"
	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/controllers/clusterpolicies"
	"github.com/trusted-resources/chains-extension/pkg/controllers/gating"
	"github.com/trusted-resources/chains-extension/pkg/controllers/informers"
	"github.com/trusted-resources/chains-extension/pkg/controllers/rights"
	"github.com/trusted-resources/chains-extension/pkg/controllers/rings"
	"github.com/trusted-resources/chains-extension/pkg/controllers/runs"
	"github.com/trusted-resources/chains-extension/pkg/controllers/signing"
	"github.com/trusted-resources/chains-extension/pkg/controllers/state"
	"github.com/trusted-resources/chains-extension/pkg/controllers/storing"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
	"github.com/trusted-resources/chains-extension/pkg/verification"
	"github.com/trusted-resources/chains-extension/pkg/version"
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
	a.closeAudit(ctx)
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
	watched *informers.Watched
	gate    *rights.Gate // watched is started when it opens
	emitter *observe.Emitter
	audit   *auditlog.Log
	store   *storeOfConfig
	objects objects
	patcher patcher
	// keyRings are the KeyRings, ringKeys loads their keys.
	keyRings *rings.Rings
	ringKeys *rings.Keys
	// kms has the keys of KeyRings that are in a KMS.
	kms *keys.KMS
	// signatureWrites are those that the verification of runs need not count as changes.
	signatureWrites *runs.SignatureWrites
	// verifier verifies runs, for the gate and for attestations.
	verifier *verification.Verifier
	// decisions are those of the gate, for attestations.
	decisions *gating.Decisions
	// policies are the ClusterVerificationPolicies in force, verdicts counts what they decide.
	policies *clusterpolicies.Followed
	verdicts *clusterpolicies.Verdicts
}

// enforced reports whether an unverified resource would be refused in a namespace.
func (s *shared) enforced(namespace string) bool {
	ns, err := s.watched.Namespaces().Lister().Get(namespace)
	return err == nil && s.policies.ModeOf(ns.Labels) == v1alpha1.VerifyEnforce
}

// controllers returns the constructors of all controllers. Knative calls them one
// after the other, with clients and informers in the context, and starts the
// informers afterwards.
func (a *app) controllers() []injection.ControllerConstructor {
	var constructors []injection.ControllerConstructor
	for _, kind := range resource.Kinds {
		constructors = append(constructors,
			a.constructor(func(ctx context.Context, _ configmap.Watcher, s *shared) (*controller.Impl, error) {
				return signing.NewController(ctx, kind, signing.Inputs{
					State: s.state, Watched: s.watched, Emitter: s.emitter, Patcher: s.patcher, Replaced: s.signatureWrites.Wrote,
					Enforced: s.enforced, Measure: s.emitter.Measure,
				})
			}),
			a.constructor(func(ctx context.Context, _ configmap.Watcher, s *shared) (*controller.Impl, error) {
				return storing.NewController(ctx, kind, s.state, s.watched, s.emitter, s.objects, s.store.load)
			}))
	}
	constructors = append(constructors, a.constructor(func(ctx context.Context, _ configmap.Watcher, s *shared) (*controller.Impl, error) {
		return gating.NewController(ctx, gating.Inputs{
			Config: s.state.Config, Verifier: s.verifier, Watched: s.watched, Handlers: &a.handlers,
			Kube: kubeclient.Get(ctx), Tekton: pipelineclient.Get(ctx), Emitter: s.emitter, Changes: s.state.OnChange,
			Ready: s.gate.IsOpen, Scope: a.options.Namespaces, Decisions: s.decisions, Decided: s.verdicts.Add,
			Modes: s.policies, ModesChanged: s.policies.OnChange,
			Rights: rights.NewGate(kubeclient.Get(ctx).AuthorizationV1().SelfSubjectAccessReviews(), rights.NeededByGate(),
				rightsObserver{kubeclient.Get(ctx).CoreV1(), s.emitter, observe.WithoutRightsOfGate}),
		})
	}))
	constructors = append(constructors, a.constructor(func(ctx context.Context, _ configmap.Watcher, s *shared) (*controller.Impl, error) {
		return a.rotationController(ctx, s), nil
	}))
	constructors = append(constructors, a.constructor(func(ctx context.Context, _ configmap.Watcher, s *shared) (*controller.Impl, error) {
		return clusterPoliciesController(ctx, s)
	}))
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
	logging.FromContext(ctx).Infow("Starting", "version", version.String())
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
	emitter.CountFromZero(ctx)
	watched, err := informers.NewWatched(ctx)
	if err != nil {
		logging.FromContext(ctx).Fatalw("Cannot watch the cluster", zap.Error(err))
	}
	configMaps, ok := cmw.(configmap.DefaultingWatcher)
	if !ok {
		logging.FromContext(ctx).Fatalf("ConfigMaps are watched with a %T, expected a watcher with defaults", cmw)
	}
	var s *state.State
	log := newAuditLog(ctx, kube, emitter, func() (*keys.Key, error) { return s.ActiveKey(resource.Task, system.Namespace()) })
	kms := keys.NewKMS(func() chainsconfig.KMSAuth { return s.Config().Chains.Signers.KMS.Auth })
	ringKeys, keyRings := a.keyRings(ctx, kube, kms)
	written, err := a.reports(ctx, kube, emitter)
	if err != nil {
		logging.FromContext(ctx).Fatalw("Cannot report verdicts", zap.Error(err))
	}
	policies := clusterpolicies.NewFollowed(kube, watched.Namespaces().Lister(), func(namespace map[string]string) ([]string, error) {
		return trustedKeys(keyRings, s.LegacyKeys, namespace)
	})
	s = state.New(ctx, state.Sources{
		Rings:        keyRings,
		Cluster:      policies,
		SecretsDir:   a.options.SecretsDir,
		Scope:        a.options.Namespaces,
		Namespaces:   watched.Namespaces().Lister(),
		Policies:     watched.Policies().Lister(),
		LivePolicies: pipelineclient.Get(ctx).TektonV1alpha1(),
		Secrets:      secrets{kube.CoreV1()},
		Emitter:      emitter,
		Loading: func(c *config.Config) {
			log.Configure(auditSettings(c))
			written.Configure(c.Reports == config.ReportsOpenReports)
		},
	})
	kms.OnRequest(s.KMSRequested)
	emitter.Measure(func() []observe.Measurement { return keyMetrics(s, keyRings) })
	emitter.Measure(s.PolicyProblems)
	emitter.Measure(certificateMetrics)
	emitter.Measure(func() []observe.Measurement {
		return []observe.Measurement{observe.CacheEntries(observe.SigningKeys, s.PolicyKeys().Cached())}
	})
	for _, onChange := range []func(func()){keyRings.OnChange, policies.OnChange} {
		onChange(func() { s.Changed(state.AllNamespaces) })
	}
	s.WatchConfig(ctx, configMaps, system.Namespace())
	observer := rightsObserver{kube.CoreV1(), emitter, observe.WithoutRights}
	observer.watchRequester(ctx, kube, s)
	gate := rights.NewGate(kube.AuthorizationV1().SelfSubjectAccessReviews(), rights.Needed(a.options.SignRuns, system.Namespace()), observer)
	// Without the rights, the controller is ready to do the work of Chains.
	a.handlers.Await(func() bool { return gate.LacksRights() || gate.IsOpen() && watched.Synced() })
	// Knative starts this informer when all controllers are constructed.
	a.handlers.Await(taskruninformer.Get(ctx).Informer().HasSynced)
	err = errors.Join(
		s.WatchPolicies(ctx, watched, watched.Policies().Informer()),
		s.WatchNamespaces(watched, watched.Namespaces().Informer()),
		s.WatchRelease(ctx, kube, a.releaseNamespaces()...),
		gate.Open(ctx, func(ctx context.Context) error {
			keyRings.Read(ctx) // nothing is signed before
			go keyRings.Run(ctx)
			return errors.Join(policies.Start(ctx), watched.Start(ctx))
		}),
	)
	if err != nil {
		logging.FromContext(ctx).Fatalw("Cannot watch the cluster", zap.Error(err))
	}
	watchGate(ctx, kube, watched.Namespaces().Lister(), policies, emitter)
	made := &shared{
		keyRings: keyRings, ringKeys: ringKeys, kms: kms, signatureWrites: runs.NewSignatureWrites(),
		state: s, watched: watched, gate: gate, emitter: emitter, store: newStoreOfConfig(kube, s.Config, emitter),
		objects: objects{pipelineclient.Get(ctx)}, patcher: newPatcher(injection.GetConfig(ctx)), audit: log,
		decisions: gating.NewDecisions(watched.Namespaces().Lister(), policies, clock.RealClock{}),
		policies:  policies, verdicts: &clusterpolicies.Verdicts{},
	}
	made.verifier, err = runs.NewVerifier(ctx, runs.Sources{
		Config: s.Config, Keys: s.Keys, Verified: keyRings.Verified, Dialect: s.Dialect, Store: made.store.load,
		SignatureWrites: made.signatureWrites, Cluster: policies,
		OnChange: s.OnChange, Measure: emitter.Measure,
		Objects: made.objects, Policies: s.PolicySources(), Watched: watched, Handlers: &a.handlers,
	})
	if err != nil {
		logging.FromContext(ctx).Fatalw("Cannot watch runs", zap.Error(err))
	}
	return made
}

// releaseNamespaces returns the namespaces in which Tekton Pipelines may publish its
// release. The Tekton operator installs Pipelines and Chains in one namespace.
func (a *app) releaseNamespaces() []string {
	if a.options.TektonNamespace != "" {
		return []string{a.options.TektonNamespace}
	}
	return []string{system.Namespace(), tekton.DefaultNamespace}
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
			reporter.Start(runs.Inputs{Config: s.state.Config, Verifier: s.verifier, Ready: s.gate.IsOpen, Emitter: s.emitter, Gate: s.decisions.Of})
			return runs.NewTaskRunController(ctx, cmw, options(s)), nil
		}),
		a.constructor(func(ctx context.Context, cmw configmap.Watcher, s *shared) (*controller.Impl, error) {
			return runs.NewPipelineRunController(ctx, cmw, options(s)), nil
		}),
	}
}
