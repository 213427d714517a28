// SPDX-License-Identifier: Apache-2.0

// Package cluster defines the parts of a local cluster and starts them in order.
package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/apply"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/build"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/realnode"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/state"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/supervisor"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/tekton"
)

const (
	kubernetesModule = "k8s.io/kubernetes"
	pollInterval     = 100 * time.Millisecond
	// webhookRetry is how long applying waits until the webhooks respond. On a later run they start at the same time.
	webhookRetry = time.Minute
)

// ReadyLine is the start of the line that Run prints when the cluster is ready and state.json is written.
// Programs wait for this line, so it has no time in front.
const ReadyLine = "ready in "

// Options are the directories and manifests of a cluster.
type Options struct {
	Dir       string   // data, logs, certificates, kubeconfig and state
	Bin       string   // binaries of build.All
	Module    string   // directory of the localcluster Go module
	Manifests []string // files or directories to apply in addition to Tekton, without workloads on a node of kwok
	NodeKind  NodeKind
	Nodes     int             // number of nodes
	Releases  []build.Release // whose programs take the place of those in Bin
	Out       io.Writer
}

// run is a cluster from its start to its end.
type run struct {
	Options
	started time.Time
	out     sync.Mutex // one line at a time

	layout  Layout
	ports   Ports
	plane   controlPlane
	clients clients
	token   string // of the control API
	super   *supervisor.Supervisor
	// upgrading is held while Tekton is upgraded. It guards Releases.
	upgrading sync.Mutex

	stateMu sync.Mutex
	ready   bool
}

// Run starts a cluster and waits until ctx ends. Then it stops all parts in reverse order. An error means that
// the cluster did not start; in that case Run has stopped all parts, too.
func Run(ctx context.Context, o Options) (err error) {
	r := &run{Options: o, started: time.Now(), token: rand.Text()}
	layout, err := NewLayout(o.Dir)
	if err != nil {
		return err
	}
	r.layout = layout
	unlock, err := state.Lock(layout.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := state.Remove(layout.Dir); err != nil {
		return err
	}
	r.super = supervisor.New(r.saveState, func(s proc.Status) {
		r.say("%s ended unexpectedly (%s): see %s", s.Name, s.Exit, s.Log)
	})
	// An earlier supervisor may have been killed, which leaves containers and mounts.
	if err := realnode.CleanUp(ctx, layout.Dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.shutDown(context.WithoutCancel(ctx))) }()
	if err := r.start(ctx); err != nil {
		if ctx.Err() != nil {
			return errors.New("stopped before the cluster was ready")
		}
		return err
	}
	<-ctx.Done()
	return nil
}

// say prints one line of progress, with the time since the start.
func (r *run) say(format string, args ...any) {
	r.print(fmt.Sprintf("[%5.1fs] ", time.Since(r.started).Seconds()) + fmt.Sprintf(format, args...))
}

func (r *run) print(line string) {
	r.out.Lock()
	defer r.out.Unlock()
	_, _ = fmt.Fprintln(r.Out, line) // the reader may have closed the output
}

func (r *run) bin(name string) string { return r.program(name) }

// part starts a part, waits until it is healthy, and prints that.
func (r *run) part(ctx context.Context, spec proc.Spec) error {
	start := time.Now()
	if err := r.super.Run(ctx, spec); err != nil {
		return err
	}
	r.say("%s is healthy (%.1fs)", spec.Name, time.Since(start).Seconds())
	return nil
}

func (r *run) start(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	deps, err := build.Dependencies(ctx, r.Module, tekton.Module, kwokModule, kubernetesModule)
	if err != nil {
		return err
	}
	pipeline, err := r.module(ctx, build.TektonController, deps[0])
	if err != nil {
		return err
	}
	kubernetes, err := r.module(ctx, build.APIServer, deps[2])
	if err != nil {
		return err
	}
	moduleDirs := map[string]string{}
	for _, d := range deps {
		moduleDirs[d.Path] = d.Dir
	}
	pool := r.NodeKind.new(r.plane, moduleDirs, r.Nodes)
	if err := pool.prepare(); err != nil {
		return err
	}
	// Reading the manifests takes a second of CPU time. It runs while etcd and the API server start.
	read := r.readManifests(pipeline)
	if err := r.part(ctx, r.plane.etcd()); err != nil {
		return err
	}
	if err := r.part(ctx, r.plane.apiServer(kubernetes.Version)); err != nil {
		return err
	}
	m, err := read()
	if err != nil {
		return err
	}
	if err := r.startRest(ctx, m, pool); err != nil {
		return err
	}
	if err := r.serveControl(ctx); err != nil {
		return err
	}
	r.announce()
	return nil
}

// manifests are the objects to apply to the cluster.
type manifests struct {
	tekton tekton.Manifests
	extra  []*unstructured.Unstructured // of Options.Manifests
}

// readManifests reads the manifests in the background. The returned function waits for the result.
func (r *run) readManifests(pipeline build.Dependency) func() (manifests, error) {
	var (
		group errgroup.Group
		m     manifests
	)
	group.Go(func() (err error) {
		if m.tekton, err = tekton.Load(pipeline.Dir, pipeline.Version, r.ports[build.TektonWebhook]); err != nil {
			return err
		}
		m.extra, err = apply.Load(r.Manifests...)
		return err
	})
	return func() (manifests, error) {
		err := group.Wait()
		return m, err
	}
}

// startRest starts the parts that need only the API server, and applies the manifests.
func (r *run) startRest(ctx context.Context, m manifests, pool nodePool) error {
	applier, err := apply.New(r.clients.config)
	if err != nil {
		return err
	}
	applier.RetryFor = webhookRetry
	if err := pool.serve(ctx, applier); err != nil {
		return err
	}

	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.part(gctx, r.plane.controllerManager()) })
	group.Go(func() error { return r.part(gctx, r.plane.scheduler()) })
	group.Go(func() error { return pool.start(gctx, r.part, applier, r.clients.kube) })
	group.Go(func() error { return r.installTekton(gctx, applier, m.tekton) })
	if err := group.Wait(); err != nil {
		return err
	}

	extra := m.extra
	if !r.NodeKind.workloads {
		extra = apply.Without(extra, apply.Workloads)
	}
	if len(extra) == 0 {
		return nil
	}
	if err := applier.Apply(ctx, extra); err != nil {
		return err
	}
	r.say("applied %d objects of %s", len(extra), strings.Join(r.Manifests, ", "))
	return nil
}

// announce writes state.json and prints that the cluster is ready.
func (r *run) announce() {
	r.stateMu.Lock()
	r.ready = true
	r.stateMu.Unlock()
	r.saveState()
	r.say("export KUBECONFIG=%s", r.layout.Kubeconfig())
	r.print(fmt.Sprintf("%s%.1fs", ReadyLine, time.Since(r.started).Seconds()))
}

// shutDown stops all parts, and the containers that survive them.
func (r *run) shutDown(ctx context.Context) error {
	r.stateMu.Lock()
	r.ready = false
	err := state.Remove(r.layout.Dir)
	r.stateMu.Unlock()
	if err != nil {
		r.say("cannot remove state.json: %v", err)
	}
	start := time.Now()
	r.super.StopAll(ctx, stopQuickly)
	err = realnode.CleanUp(ctx, r.layout.Dir)
	r.say("stopped (%.1fs)", time.Since(start).Seconds())
	return err
}
