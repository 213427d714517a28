// SPDX-License-Identifier: Apache-2.0

//go:build realnode

package realnode

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// The replicas are on different nodes. When the node of the leader is drained, the other
// replica signs, and the evicted one starts again on the other node.
func TestDrain_LeavesASigningReplica(t *testing.T) {
	e := install(t)
	ns := e.namespace()
	pods := e.pods()
	if len(pods) != 2 || pods[0].Spec.NodeName == pods[1].Spec.NodeName {
		t.Fatalf("the replicas run on %q, want two nodes", nodesOf(pods))
	}
	leader := e.leader()
	node := nodesOf(pods)[leader]
	started := time.Now()
	e.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout", "120s")
	t.Cleanup(func() { e.uncordon(node) })
	t.Logf("drained node %s of the leader %s in %.1f s", node, leader, time.Since(started).Seconds())

	e.createTask(task(ns, "after-drain", "true"))
	created := time.Now()
	e.waitSigned(ns, "after-drain", time.Minute)
	t.Logf("the other replica signed %.1f s after the drain", time.Since(created).Seconds())
	if now := e.leader(); now == leader {
		t.Errorf("the evicted Pod %s still leads", leader)
	}
	e.waitReady()
	for pod, where := range nodesOf(e.pods()) {
		if where == node {
			t.Errorf("Pod %s runs on the drained node", pod)
		}
	}
}

func nodesOf(pods []corev1.Pod) map[string]string {
	nodes := map[string]string{}
	for _, pod := range pods {
		nodes[pod.Name] = pod.Spec.NodeName
	}
	return nodes
}

func (e env) uncordon(node string) {
	if _, err := cluster.RunKubectl(cleanupContext(), "", "uncordon", node); err != nil {
		e.t.Error(err)
	}
}

// signingLease is a part of the name of the lease for signing Tasks.
const signingLease = v1alpha1.Group + ".task."

// leader returns the name of the Pod that signs Tasks. The lease has a random identity,
// because Pods with the network of the host have the same host name. The Pod's log has it.
func (e env) leader() (leader string) {
	e.t.Helper()
	e.eventually(time.Minute, func() error {
		holder, err := e.holder()
		if err != nil {
			return err
		}
		for _, pod := range e.pods() {
			log, err := cluster.RunKubectl(e.t.Context(), "", "-n", pod.Namespace, "logs", pod.Name)
			if err != nil {
				return err
			}
			if strings.Contains(log, holder+`\" has started leading`) {
				leader = pod.Name
				return nil
			}
		}
		return fmt.Errorf("no Pod of %v has logged that %s leads", nodesOf(e.pods()), holder)
	})
	return leader
}

// holder returns the identity that holds the lease for signing Tasks.
func (e env) holder() (string, error) {
	leases, err := cluster.Kube.CoordinationV1().Leases(harness.SystemNamespace).List(e.t.Context(), metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	var names []string
	for _, lease := range leases.Items {
		names = append(names, lease.Name)
		if holder := lease.Spec.HolderIdentity; strings.Contains(lease.Name, signingLease) && holder != nil && *holder != "" {
			return *holder, nil
		}
	}
	return "", fmt.Errorf("no lease *%s* of %q is held", signingLease, names)
}
