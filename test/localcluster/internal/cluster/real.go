// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	_ "embed" // assets
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/apply"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/build"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/images"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/realnode"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/state"
)

const (
	maxRealNodes = realnode.MaxNodes
	containerd   = "containerd"
)

//go:embed assets/admission.yaml
var podSecurity []byte

// Repositories of the images of a real node.
const (
	pauseImage          = "localcluster/pause"
	entrypointImage     = "localcluster/entrypoint"
	nopImage            = "localcluster/nop"
	workingDirInitImage = "localcluster/workingdirinit"
	shellImage          = "localcluster/shell"
	baseImage           = "localcluster/base"
)

// realNodes are nodes that run containers.
type realNodes struct {
	controlPlane
	nodes []realnode.Node
}

func newRealNodes(plane controlPlane, _ map[string]string, number int) nodePool {
	r := realNodes{controlPlane: plane}
	for i := range number {
		r.nodes = append(r.nodes, realnode.New(plane.layout.Dir, i+1))
	}
	return r
}

func realAPIServerFlags(c controlPlane) []string {
	return []string{
		"--admission-control-config-file=" + c.layout.podSecurity(),
		// For kubectl logs and exec.
		"--kubelet-client-certificate=" + c.pki.EtcdCert, "--kubelet-client-key=" + c.pki.EtcdKey,
		"--kubelet-preferred-address-types=InternalIP",
	}
}

// realTektonFlags repeat flags of Tekton's Deployment. The last value of a flag wins.
func realTektonFlags(c controlPlane) []string {
	return []string{
		"-entrypoint-image", c.image(entrypointImage), "-nop-image", c.image(nopImage),
		"-workingdirinit-image", c.image(workingDirInitImage), "-shell-image", c.image(shellImage),
	}
}

func (c controlPlane) image(repository string) string {
	return images.Reference(c.ports.address("registry"), repository)
}

func (r realNodes) prepare() error {
	if err := realnode.CheckMachine(); err != nil {
		return err
	}
	if err := state.WriteFile(r.layout.podSecurity(), podSecurity); err != nil {
		return err
	}
	for _, n := range r.nodes {
		err := n.Prepare(realnode.Server{
			Port: r.ports["kubelet"], HealthPort: r.ports["kubelet-healthz"],
			Cert: r.pki.ServingCert, Key: r.pki.ServingKey, ClientCA: r.pki.CA,
			Registry: r.ports.address("registry"), PauseImage: r.image(pauseImage),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r realNodes) start(ctx context.Context, startPart func(context.Context, proc.Spec) error, _ *apply.Applier, client kubernetes.Interface) error {
	registry, err := r.registry()
	if err != nil {
		return err
	}
	if err := startPart(ctx, registry); err != nil {
		return err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.pushImages(gctx) })
	for _, n := range r.nodes {
		group.Go(func() error {
			if err := startPart(gctx, r.containerd(n)); err != nil {
				return err
			}
			if err := startPart(gctx, r.kubelet(n)); err != nil {
				return err
			}
			return waitNode(gctx, client, n.Address, n.Part(build.Kubelet))
		})
	}
	return group.Wait()
}

// pushImages pushes the images that each Pod and each TaskRun needs, shells under names that samples use, and a base
// image for ko.
func (r realNodes) pushImages(ctx context.Context) error {
	shell, err := images.Shell(ctx, realnode.Shell, shellImage, "library/alpine", "library/busybox")
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, image := range []images.Image{
		images.KoImage(r.bin(build.Pause), pauseImage),
		images.KoImage(r.bin(build.Entrypoint), entrypointImage),
		images.KoImage(r.bin(build.Nop), nopImage),
		images.KoImage(r.bin(build.WorkingDirInit), workingDirInitImage),
		shell,
		images.Base(baseImage),
	} {
		group.Go(func() error { return image.Push(ctx, r.ports.address("registry")) })
	}
	return group.Wait()
}

func (r realNodes) containerd(n realnode.Node) proc.Spec {
	spec := r.spec(n.Part(containerd), n.ContainerdReady, "--config="+n.ContainerdConfig())
	spec.Path = realnode.Containerd()
	return spec
}

func (r realNodes) kubelet(n realnode.Node) proc.Spec {
	name, _ := n.User()
	spec := r.spec(n.Part(build.Kubelet), httpReady(n.HealthURL(r.ports["kubelet-healthz"]), nil),
		"--config="+n.KubeletConfig(),
		"--root-dir="+n.KubeletRoot(),
		"--cert-dir="+filepath.Join(n.KubeletRoot(), "pki"),
		"--kubeconfig="+r.layout.identity(name),
		"--hostname-override="+n.Address,
	)
	spec.Path = r.bin(build.Kubelet)
	spec.StartTimeout = 2 * time.Minute
	return spec
}
