// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	_ "embed" // assets
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/apply"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/build"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/state"
)

//go:embed assets/pod-complete.yaml
var podStage []byte

// kwokOptions turns off the servers of kwok for exec, logs and profiling. kwok applies no defaults to a file of
// options, so the file repeats the other defaults.
const kwokOptions = `apiVersion: config.kwok.x-k8s.io/v1alpha1
kind: KwokConfiguration
options:
  enableDebuggingHandlers: false
  enableProfilingHandler: false
  cidr: 10.0.0.0/24
  podPlayStageParallelism: 4
  nodePlayStageParallelism: 4
  podsOnNodeSyncParallelism: 1
  enablePodsOnNodeSyncListPager: true
`

const (
	kwokModule = "sigs.k8s.io/kwok"
	nodeName   = "localcluster"
)

// kwokNode is a node that runs no containers: kwok plays its kubelet.
type kwokNode struct {
	controlPlane
	moduleDir string // of kwok
}

func newKwokNode(plane controlPlane, moduleDirs map[string]string, _ int) nodePool {
	return kwokNode{controlPlane: plane, moduleDir: moduleDirs[kwokModule]}
}

func (n kwokNode) prepare() error {
	if err := state.WriteFile(n.layout.podStage(), podStage); err != nil {
		return err
	}
	return state.WriteFile(n.layout.kwokOptions(), []byte(kwokOptions))
}

func (n kwokNode) serve(context.Context, *apply.Applier) error { return nil }

// start creates the only node, which kwok makes ready.
func (n kwokNode) start(ctx context.Context, startPart func(context.Context, proc.Spec) error, applier *apply.Applier, client kubernetes.Interface) error {
	if err := startPart(ctx, n.kwok()); err != nil {
		return err
	}
	node := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Node",
		"metadata": map[string]any{
			"name": nodeName,
			"labels": map[string]any{
				corev1.LabelHostname: nodeName, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
			},
		},
	}}
	if err := applier.Apply(ctx, []*unstructured.Unstructured{node}); err != nil {
		return err
	}
	return waitNode(ctx, client, nodeName, build.Kwok)
}

// kwok returns the spec of kwok. It uses the stages of its own module and our stage, which ends the pods of TaskRuns.
func (n kwokNode) kwok() proc.Spec {
	stage := func(path string) string {
		return "--config=" + filepath.Join(n.moduleDir, "kustomize", "stage", filepath.FromSlash(path))
	}
	return n.spec(build.Kwok, httpReady("http://"+n.ports.address("kwok")+"/healthz", nil),
		"--kubeconfig="+n.layout.identity(kwokUser),
		"--server-address="+n.ports.address("kwok"),
		"--manage-all-nodes",
		"--node-lease-duration-seconds=0", // no controller checks the lease of the node
		"--config="+n.layout.kwokOptions(),
		stage("node/fast/node-initialize.yaml"),
		stage("pod/fast/pod-ready.yaml"),
		stage("pod/fast/pod-complete.yaml"),
		stage("pod/fast/pod-delete.yaml"),
		"--config="+n.layout.podStage(),
	)
}
