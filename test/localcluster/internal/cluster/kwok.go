// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	_ "embed" // assets
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/apply"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/build"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
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
	nodeName        = "localcluster"
	nodeReadyWithin = 30 * time.Second
)

// kwok returns the spec of kwok, which plays the kubelet. It uses the stages of its own module and our stage,
// which ends the pods of TaskRuns.
func (c controlPlane) kwok(moduleDir string) proc.Spec {
	stage := func(path string) string {
		return "--config=" + filepath.Join(moduleDir, "kustomize", "stage", filepath.FromSlash(path))
	}
	return c.spec(build.Kwok, httpReady("http://"+c.ports.address("kwok")+"/healthz", nil),
		"--kubeconfig="+c.layout.identity(kwokUser),
		"--server-address="+c.ports.address("kwok"),
		"--manage-all-nodes",
		"--node-lease-duration-seconds=0", // no controller checks the lease of the node
		"--config="+c.layout.kwokOptions(),
		stage("node/fast/node-initialize.yaml"),
		stage("pod/fast/pod-ready.yaml"),
		stage("pod/fast/pod-complete.yaml"),
		stage("pod/fast/pod-delete.yaml"),
		"--config="+c.layout.podStage(),
	)
}

// createNode creates the only node and waits until kwok has made it ready.
func createNode(ctx context.Context, applier *apply.Applier, client kubernetes.Interface) error {
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
	err := wait.PollUntilContextTimeout(ctx, pollInterval, nodeReadyWithin, true, func(ctx context.Context) (bool, error) {
		n, err := client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("node %s is not ready after %s: see the log of %s: %w", nodeName, nodeReadyWithin, build.Kwok, err)
	}
	return nil
}
