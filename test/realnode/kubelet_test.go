// SPDX-License-Identifier: Apache-2.0

//go:build realnode

package realnode

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// When the Secret is replaced, the kubelet replaces the files in the running Pods, and the
// controller signs everything again with the new key.
func TestSecret_ReplacedKeySignsAgain(t *testing.T) {
	e := install(t)
	ns := e.namespace()
	e.createTask(task(ns, "rotated", "true"))
	e.waitSigned(ns, "rotated", soon)

	before := nodesOf(e.pods())
	oldPublic := installed.public
	secret, public, err := fixtures.CosignSecret()
	e.check(err)
	secret["retired-old.pub"] = publicPEM(e, oldPublic)
	replaced := time.Now()
	e.replaceSecret(secret)
	installed.public = public
	e.waitSigned(ns, "rotated", afterKubelet)
	t.Logf("signed with the new key %.0f s after the Secret was replaced", time.Since(replaced).Seconds())
	for pod := range nodesOf(e.pods()) {
		if _, same := before[pod]; !same {
			t.Errorf("Pod %s is new: the key was not picked up by a running Pod", pod)
		}
	}
}

// A controller that does not answer is started again by the kubelet, and signs.
func TestLiveness_RestartsAStoppedController(t *testing.T) {
	e := install(t)
	ns := e.namespace()
	pod := e.pod(e.leader())
	if n := pod.Status.ContainerStatuses[0].RestartCount; n != 0 {
		t.Fatalf("the container of Pod %s was restarted %d times before the test", pod.Name, n)
	}
	stopped := time.Now()
	e.check(syscall.Kill(e.process(pod), syscall.SIGSTOP))
	e.eventually(afterKubelet, func() error {
		status := e.pod(pod.Name).Status.ContainerStatuses[0]
		if status.RestartCount == 0 || !status.Ready {
			return fmt.Errorf("the container was restarted %d times, ready: %v", status.RestartCount, status.Ready)
		}
		return nil
	})
	t.Logf("restarted and ready %.0f s after SIGSTOP", time.Since(stopped).Seconds())
	e.createTask(task(ns, "after-restart", "true"))
	e.waitSigned(ns, "after-restart", soon)
}

func (e env) pod(name string) *corev1.Pod {
	e.t.Helper()
	pod, err := cluster.Kube.CoreV1().Pods(harness.SystemNamespace).Get(e.t.Context(), name, metav1.GetOptions{})
	e.check(err)
	return pod
}
