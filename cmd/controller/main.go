// Command controller is Tekton Chains' controller and, besides, signs the
// Tasks, Pipelines and StepActions of the cluster.
package main

import (
	"flag"
	"log"
	"strings"

	"k8s.io/client-go/rest"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection"
	"knative.dev/pkg/injection/sharedmain"
	"knative.dev/pkg/signals"

	_ "github.com/sigstore/cosign/v2/pkg/providers/all" // identity providers for Chains' keyless signing

	"github.com/trusted-resources/chains-extension/pkg/reconciler/resources"
	"github.com/trusted-resources/chains-extension/pkg/reconciler/runs"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// component names the leases and is Chains' own, so that a stock Chains and
// this controller never both run its reconcilers.
const component = "watcher"

// The API server, not our own client, decides how fast we may write: it has
// priority and fairness for that. These only stop a runaway.
const (
	defaultQPS   = 1000
	defaultBurst = 2000
)

func main() {
	secretsDir := flag.String("signing-secrets", "/etc/signing-secrets",
		"Directory of the signing secret: x509.pem, or cosign.key with cosign.password; public keys that signed before as *.pub.")
	tektonNamespace := flag.String("tekton-namespace", tekton.DefaultNamespace, "Namespace in which Tekton Pipelines is installed.")
	namespaceList := flag.String("namespace", "", "Comma-separated list of namespaces to restrict the controller to (default: all).")
	withRuns := flag.Bool("sign-runs", true,
		"Also run Tekton Chains' TaskRun and PipelineRun reconcilers. Turn off to run beside a stock Chains.")
	flag.IntVar(&controller.DefaultThreadsPerController, "threads-per-controller", 8, "Workers for each kind of resource.")
	healthPort := flag.Int("health-port", injection.HealthCheckDefaultPort, "Port of the health probes.")
	cfg := injection.ParseAndGetRESTConfigOrDie() // parses the flags
	if cfg.QPS == 0 {
		cfg.QPS = defaultQPS
	}
	if cfg.Burst == 0 {
		cfg.Burst = defaultBurst
	}

	namespaces := strings.FieldsFunc(*namespaceList, func(r rune) bool { return r == ',' || r == ' ' })
	controllers := resources.NewControllers(resources.Options{
		SecretsDir: *secretsDir, TektonNamespace: *tektonNamespace, Namespaces: namespaces,
	})
	if *withRuns {
		controllers = append(controllers, runs.NewControllers(*secretsDir, namespaces)...)
	}
	run(cfg, *healthPort, controllers)
}

func run(cfg *rest.Config, healthPort int, controllers []injection.ControllerConstructor) {
	ctx := sharedmain.WithHealthProbesDisabled(signals.NewContext())
	go func() {
		if err := injection.ServeHealthProbes(ctx, healthPort); err != nil {
			log.Fatalf("Health probes: %v; choose another --health-port", err)
		}
	}()
	sharedmain.MainWithConfig(ctx, component, cfg, controllers...)
}
