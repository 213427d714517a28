// Command controller is Tekton Chains' controller and, besides, signs the
// Tasks, Pipelines and StepActions of the cluster.
package main

import (
	"cmp"
	"flag"
	"log"
	"strings"

	_ "github.com/sigstore/cosign/v2/pkg/providers/all" // identity providers for Chains' keyless signing
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection"
	"knative.dev/pkg/injection/sharedmain"
	"knative.dev/pkg/signals"

	"github.com/trusted-resources/chains-extension/pkg/controllers/environment"
	"github.com/trusted-resources/chains-extension/pkg/controllers/resources"
	"github.com/trusted-resources/chains-extension/pkg/controllers/runs"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// component names the leases, as Chains does: so a stock Chains and this
// controller never both run its reconcilers.
const component = "watcher"

func main() {
	secretsDir := flag.String("signing-secrets", "/etc/signing-secrets", "Directory of the signing secret.")
	tektonNamespace := flag.String("tekton-namespace", tekton.DefaultNamespace, "Namespace in which Tekton Pipelines is installed.")
	namespaceList := flag.String("namespace", "", "Comma-separated list of namespaces to restrict the controller to (default: all).")
	signRuns := flag.Bool("sign-runs", true, "Also run Tekton Chains' reconcilers; turn off beside a stock Chains.")
	healthPort := flag.Int("health-port", injection.HealthCheckDefaultPort, "Port of the health probes.")
	flag.IntVar(&controller.DefaultThreadsPerController, "threads-per-controller", 8, "Workers for each kind.")
	cfg := injection.ParseAndGetRESTConfigOrDie() // parses the flags
	// The API server's priority and fairness says how fast we may write; our
	// own limit only stops a runaway.
	cfg.QPS, cfg.Burst = cmp.Or(cfg.QPS, 1000), cmp.Or(cfg.Burst, 2000)

	namespaces := strings.FieldsFunc(*namespaceList, func(r rune) bool { return r == ',' || r == ' ' })
	options := environment.Options{SecretsDir: *secretsDir, TektonNamespace: *tektonNamespace, Namespaces: namespaces}
	shared := environment.Shared(options)
	controllers := resources.NewControllers(shared)
	if *signRuns {
		controllers = append(controllers, runs.NewControllers(shared, options)...)
	}

	ctx := sharedmain.WithHealthProbesDisabled(signals.NewContext()) // they are at a fixed port
	go func() {
		if err := shared.ServeProbes(ctx, *healthPort); err != nil {
			log.Fatalf("Health probes: %v; choose another --health-port", err)
		}
	}()
	sharedmain.MainWithConfig(ctx, component, cfg, controllers...)
}
