// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/state"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/supervisor"
)

// serveControl offers the control API until ctx ends.
func (r *run) serveControl(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", r.ports.address("control"))
	if err != nil {
		return fmt.Errorf("open the control port: %w", err)
	}
	server := &http.Server{
		Handler:           r.super.Handler(r.token, r.addedSpec, r.upgradeTekton),
		ReadHeaderTimeout: 10 * time.Second,
	}
	go func() { _ = server.Serve(listener) }() // ends with Close
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return nil
}

// addedSpec returns the spec for a request to add a part.
func (r *run) addedSpec(req supervisor.AddRequest) (proc.Spec, error) {
	if len(req.Command) == 0 || !filepath.IsAbs(req.Command[0]) {
		return proc.Spec{}, fmt.Errorf("the command %q does not start with an absolute path", req.Command)
	}
	spec := proc.Spec{
		Name: req.Name, Path: req.Command[0], Args: req.Command[1:], Dir: req.Dir,
		Env:          append([]string{"KUBECONFIG=" + r.layout.Kubeconfig(), minVersion}, req.Env...),
		LogFile:      r.layout.Log(req.Name),
		StartTimeout: req.ReadyTimeout,
	}
	if req.ReadyURL != "" {
		spec.Ready = httpReady(req.ReadyURL, r.plane.tls)
	}
	return spec, nil
}

// saveState writes state.json once the cluster is ready.
func (r *run) saveState() {
	r.stateMu.Lock()
	defer r.stateMu.Unlock()
	if !r.ready {
		return
	}
	err := state.Write(r.layout.Dir, state.State{
		PID: os.Getpid(), Control: "http://" + r.ports.address("control"), Token: r.token,
		Kubeconfig: r.layout.Kubeconfig(), Ports: r.ports, Parts: r.super.Status(),
	})
	if err != nil {
		r.say("cannot write state.json: %v", err)
	}
}
