// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"flag"
	"slices"
	"strings"

	"k8s.io/client-go/rest"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection"

	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// Options are what the command line says.
type Options struct {
	// SecretsDir is the directory in which the signing secret is mounted.
	SecretsDir string
	// TektonNamespace is the namespace in which Tekton Pipelines is installed. Empty
	// means that it is the controller's own or the default one.
	TektonNamespace string
	// Namespaces limits the controller to some namespaces. Empty means all
	// namespaces.
	Namespaces []string
	// SignRuns reports whether Chains' controllers run, too.
	SignRuns bool
	// HealthPort is the port of the health probes.
	HealthPort int
}

// attests reports whether the controller attests the runs of a namespace.
func (o Options) attests(namespace string) bool {
	return o.SignRuns && (len(o.Namespaces) == 0 || slices.Contains(o.Namespaces, namespace))
}

// The limits of our own requests stop a loop that has got out of control. The
// priority and fairness of the API server decides how fast the controller may
// write.
const (
	defaultQPS   = 1000
	defaultBurst = 2000
)

const defaultThreads = 8

// parseFlags reads the command line and the kubeconfig that it names, or ends the
// process.
func parseFlags() (Options, *rest.Config) {
	var o Options
	var namespaces string
	flag.StringVar(&o.SecretsDir, "signing-secrets", "/etc/signing-secrets", "Directory of the signing secret.")
	flag.StringVar(&o.TektonNamespace, "tekton-namespace", "", "Namespace in which Tekton Pipelines is installed (default: the controller's own if it is there, otherwise "+tekton.DefaultNamespace+").")
	flag.StringVar(&namespaces, "namespace", "", "Comma-separated list of namespaces to restrict the controller to (default: all).")
	flag.BoolVar(&o.SignRuns, "sign-runs", true, "Also run Tekton Chains' reconcilers; turn off beside a stock Chains.")
	flag.IntVar(&o.HealthPort, "health-port", injection.HealthCheckDefaultPort, "Port of the health probes.")
	flag.IntVar(&controller.DefaultThreadsPerController, "threads-per-controller", defaultThreads, "Workers for each kind.")
	cfg := injection.ParseAndGetRESTConfigOrDie() // calls flag.Parse
	cfg.QPS, cfg.Burst = cmp.Or(cfg.QPS, defaultQPS), cmp.Or(cfg.Burst, defaultBurst)
	o.Namespaces = strings.FieldsFunc(namespaces, func(r rune) bool { return r == ',' || r == ' ' })
	return o, cfg
}
