// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/apply"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/build"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/state"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/tekton"
)

// component is a Tekton process.
type component struct {
	name, pkg string
	// leases is the number of controllers in the process. Each has a lease whose name starts with leasePrefix.
	leasePrefix string
	leases      int
}

var components = []component{
	{build.TektonWebhook, tekton.Module + "/cmd/webhook", "tekton-pipelines-webhook.", 5},
	{build.TektonController, tekton.Module + "/cmd/controller", "tekton-pipelines-controller.", 3},
	{build.TektonResolvers, tekton.Module + "/cmd/resolvers", "controller.", 5},
}

// identityValidFor is longer than a temporary cluster exists.
const identityValidFor = 365 * 24 * time.Hour

// clients are clients of the API server with the administrator's identity.
type clients struct {
	config  *rest.Config
	kube    kubernetes.Interface
	dynamic dynamic.Interface
	crds    apiextensions.Interface
}

func newClients(kubeconfig string) (c clients, err error) {
	if c.config, err = RESTConfig(kubeconfig); err != nil {
		return c, err
	}
	if c.kube, err = kubernetes.NewForConfig(c.config); err != nil {
		return c, err
	}
	if c.dynamic, err = dynamic.NewForConfig(c.config); err != nil {
		return c, err
	}
	c.crds, err = apiextensions.NewForConfig(c.config)
	return c, err
}

// tektonInstalled reports whether an earlier run has installed Tekton in this cluster.
func tektonInstalled(ctx context.Context, client kubernetes.Interface) (bool, error) {
	_, err := client.CoreV1().ConfigMaps(tekton.Namespace).Get(ctx, "pipelines-info", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// installTekton applies Tekton's manifests and starts its processes. The processes need their ConfigMaps to
// start, and changes to the ConfigMaps need the webhook. So on the first run the manifests come first. On a
// later run the ConfigMaps exist, and installTekton does both at the same time.
func (r *run) installTekton(ctx context.Context, applier *apply.Applier, m tekton.Manifests) error {
	installed, err := tektonInstalled(ctx, r.clients.kube)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	applied := make(chan struct{})
	if installed {
		if err := r.releaseLeases(ctx); err != nil {
			return err
		}
		close(applied)
	}
	group.Go(func() error {
		start := time.Now()
		if err := applier.Apply(ctx, m.Objects); err != nil {
			return err
		}
		r.say("applied %d objects of Tekton (%.1fs)", len(m.Objects), time.Since(start).Seconds())
		if !installed {
			close(applied)
		}
		return nil
	})
	group.Go(func() error {
		select {
		case <-applied:
			return r.startTekton(ctx, m.Workloads)
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return group.Wait()
}

// releaseLeases deletes the leases of the processes of an earlier run, which have ended. Otherwise the new
// processes would wait until the leases expire.
func (r *run) releaseLeases(ctx context.Context) error {
	for _, namespace := range []string{tekton.Namespace, tekton.ResolversNamespace} {
		leases := r.clients.kube.CoordinationV1().Leases(namespace)
		if err := leases.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			return fmt.Errorf("delete the leases in namespace %s: %w", namespace, err)
		}
	}
	return nil
}

// startTekton starts all Tekton processes, each with its own service account.
func (r *run) startTekton(ctx context.Context, workloads map[string]tekton.Workload) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range components {
		group.Go(func() error {
			spec, err := r.tektonSpec(ctx, c, workloads[c.pkg])
			if err != nil {
				return err
			}
			return r.part(ctx, spec)
		})
	}
	return group.Wait()
}

func (r *run) tektonSpec(ctx context.Context, c component, w tekton.Workload) (proc.Spec, error) {
	if w.ServiceAccount == "" {
		return proc.Spec{}, fmt.Errorf("no Deployment in the manifests of %s runs %s", tekton.Module, c.pkg)
	}
	identity, err := ServiceAccountKubeconfig(ctx, r.clients.config, w.Namespace, w.ServiceAccount, identityValidFor)
	if err != nil {
		return proc.Spec{}, err
	}
	if err := state.WriteFile(r.layout.identity(c.name), identity); err != nil {
		return proc.Spec{}, err
	}
	port := func(use string) string { return strconv.Itoa(r.ports[c.name+"-"+use]) }
	// The readiness probes of the processes succeed too early, so the leases show when they are ready.
	ready := func(ctx context.Context, started time.Time) error {
		return tekton.LeasesHeld(ctx, r.clients.kube, w.Namespace, c.leasePrefix, c.leases, started)
	}
	if c.name == build.TektonWebhook {
		ready = all(ready,
			func(ctx context.Context, _ time.Time) error { return tekton.ConversionReady(ctx, r.clients.crds) },
			func(ctx context.Context, _ time.Time) error { return tekton.AdmissionReady(ctx, r.clients.dynamic) },
		)
	}
	args := w.Args
	if c.name == build.TektonController {
		args = append(args, r.NodeKind.tektonFlags(r.plane)...)
	}
	return proc.Spec{
		Name: c.name, Path: r.bin(c.name), Args: args, Dir: r.layout.Dir, LogFile: r.layout.Log(c.name),
		Env: append(w.Env,
			"KUBECONFIG="+r.layout.identity(c.name),
			"POD_NAME="+c.name,
			minVersion,
			"METRICS_PROMETHEUS_HOST=127.0.0.1",
			"METRICS_PROMETHEUS_PORT="+port("metrics"),
			"PROFILING_PORT="+port("profiling"),
			"PROBES_PORT="+port("probes"),
			"WEBHOOK_PORT="+strconv.Itoa(r.ports[build.TektonWebhook]),
		),
		Ready: ready,
		// The webhook serves for 45 s after SIGTERM, because load balancers may be slow to notice.
		StopTimeout: time.Minute,
	}, nil
}
