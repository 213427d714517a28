// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/apply"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/build"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/tekton"
)

// program returns the path of a program: that of a release in Options.Releases, or else that of build.All.
func (o Options) program(name string) string {
	for _, release := range o.Releases {
		if release.Has(name) {
			return filepath.Join(release.Dir(o.Bin), name)
		}
	}
	return filepath.Join(o.Bin, name)
}

// module returns the module that a program is built from.
func (r *run) module(ctx context.Context, name string, required build.Dependency) (build.Dependency, error) {
	for _, release := range r.Releases {
		if release.Has(name) {
			return release.Download(ctx)
		}
	}
	return required, nil
}

// upgradeTekton installs another release of Tekton over the running one: the manifests first, as kubectl apply
// does, and then the programs. An empty version is the release in the module of localcluster.
func (r *run) upgradeTekton(ctx context.Context, version string) error {
	r.upgrading.Lock()
	defer r.upgrading.Unlock()
	required, err := build.Dependencies(ctx, r.Module, tekton.Module)
	if err != nil {
		return err
	}
	to := required[0]
	var releases []build.Release
	for _, release := range r.Releases {
		if !release.Has(build.TektonController) {
			releases = append(releases, release)
		}
	}
	if version != "" {
		release := build.Tekton(version)
		if missing := release.Missing(r.Bin); len(missing) > 0 {
			return fmt.Errorf("the binaries %q are missing: run `localcluster build --tekton-release %s` first", missing, version)
		}
		if to, err = release.Download(ctx); err != nil {
			return err
		}
		releases = append(releases, release)
	}
	m, err := tekton.Load(to.Dir, to.Version, r.ports[build.TektonWebhook])
	if err != nil {
		return err
	}
	applier, err := apply.New(r.clients.config)
	if err != nil {
		return err
	}
	applier.RetryFor = webhookRetry
	if err := applier.Apply(ctx, m.Objects); err != nil {
		return err
	}
	r.say("applied %d objects of Tekton %s", len(m.Objects), to.Version)
	r.Releases = releases
	for _, c := range components {
		if err := r.super.Forget(ctx, c.name); err != nil {
			return err
		}
	}
	if err := r.releaseLeases(ctx); err != nil {
		return err
	}
	return r.startTekton(ctx, m.Workloads)
}
