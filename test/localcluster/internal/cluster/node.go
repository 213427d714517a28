// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/apply"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/build"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
)

// nodePool is what runs the Pods of a cluster.
type nodePool interface {
	// prepare checks that the machine can run the nodes, and writes the files that their parts read.
	prepare() error
	// serve serves what the parts of the nodes and the API server ask this process for, until ctx ends.
	serve(ctx context.Context, applier *apply.Applier) error
	// start starts the parts of the nodes and waits until the nodes are ready. startPart starts a part and waits
	// until the part is healthy.
	start(ctx context.Context, startPart func(context.Context, proc.Spec) error, applier *apply.Applier, client kubernetes.Interface) error
}

// NodeKind is a way to run Pods. NodeKinds is the only place where the code tells the kinds apart.
type NodeKind struct {
	Name     string
	Binaries []build.Binary // in addition to those of the control plane
	MaxNodes int

	// controllers are those of kube-controller-manager, in addition to the ones that each cluster needs.
	controllers []string
	// workloads says that the Pods of manifests can run.
	workloads bool
	// apiServerFlags and tektonFlags are additional flags of kube-apiserver and of Tekton's controller.
	apiServerFlags func(controlPlane) []string
	tektonFlags    func(controlPlane) []string
	new            func(plane controlPlane, moduleDirs map[string]string, number int) nodePool
}

// NodeKinds lists the kinds. The first one is the default.
var NodeKinds = []NodeKind{
	{
		Name: "kwok", Binaries: build.KwokNode, MaxNodes: 1,
		apiServerFlags: noFlags, tektonFlags: noFlags, new: newKwokNode,
	},
	{
		Name: "real", Binaries: build.RealNode, MaxNodes: maxRealNodes,
		// disruption: an eviction needs the status of a PodDisruptionBudget.
		controllers:    []string{"deployment-controller", "disruption-controller", "replicaset-controller"},
		workloads:      true,
		apiServerFlags: realAPIServerFlags, tektonFlags: realTektonFlags, new: newRealNodes,
	},
}

func noFlags(controlPlane) []string { return nil }

// FindNodeKind returns the kind with a name.
func FindNodeKind(name string) (NodeKind, error) {
	names := make([]string, len(NodeKinds))
	for i, kind := range NodeKinds {
		if kind.Name == name {
			return kind, nil
		}
		names[i] = kind.Name
	}
	return NodeKind{}, fmt.Errorf("unknown kind of node %q: use one of %q", name, names)
}

const nodeReadyWithin = time.Minute

// waitNode waits until a node is ready. part is the process that makes the node ready.
func waitNode(ctx context.Context, client kubernetes.Interface, name, part string) error {
	err := wait.PollUntilContextTimeout(ctx, pollInterval, nodeReadyWithin, true, func(ctx context.Context) (bool, error) {
		n, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			if apierrors.IsNotFound(err) {
				return false, nil
			}
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
		return fmt.Errorf("node %s is not ready after %s: see the log of %s: %w", name, nodeReadyWithin, part, err)
	}
	return nil
}
