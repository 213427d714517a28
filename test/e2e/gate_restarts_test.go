// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// startWaiting stops the controller and starts so many TaskRuns, every fourth of an
// unsigned Task, and a PipelineRun. It returns when all their Pods are held.
func (g *gated) startWaiting(namespace string, runs int) *started {
	g.t.Helper()
	g.createSigned(namespace, "signed")
	g.createTask(newTask(namespace, "unsigned", withStepAction(&v1.Ref{ResolverRef: harness.ClusterRef(resource.StepAction, namespace, "action")})))
	g.createStepAction(namespace, "action", true)
	g.createPipeline(namespace, "pipeline",
		v1.PipelineTask{Name: "build", TaskRef: &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, namespace, "signed")}},
		v1.PipelineTask{Name: "deploy", RunAfter: []string{"build"}, TaskRef: &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, namespace, "signed")}})
	recorded := g.recordStarted(namespace)
	g.check(g.controller.Kill(g.t.Context()))
	g.createPipelineRun(namespace, "pipeline", "pipeline", 0)
	for i := range runs {
		g.createTaskRun(namespace, waitingName(i), &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, namespace, waitingTask(i))})
	}
	g.eventually(4*soon, func() error { return g.countHeld(namespace, runs+1) })
	return recorded
}

func waitingTask(i int) string {
	if i%4 == 0 {
		return "unsigned"
	}
	return "signed"
}

func waitingName(i int) string { return fmt.Sprintf("%s-%d", waitingTask(i), i) }

// countHeld returns an error unless so many Pods of a namespace are held.
func (g *gated) countHeld(namespace string, want int) error {
	pods, err := cluster.Kube.CoreV1().Pods(namespace).List(g.t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	held := 0
	for i := range pods.Items {
		if harness.IsHeld(&pods.Items[i]) {
			held++
		}
	}
	if held != want {
		return fmt.Errorf("%d Pods are held, want %d", held, want)
	}
	return nil
}

// expectDecided waits until all runs of startWaiting have ended, and checks that each
// was decided, and none was released unverified.
func (g *gated) expectDecided(namespace string, runs int, recorded *started) {
	g.t.Helper()
	for i := range runs {
		var run *v1.TaskRun
		g.eventually(4*soon, func() error {
			if run = g.getTaskRun(namespace, waitingName(i)); !run.IsDone() {
				return fmt.Errorf("TaskRun %s is not decided: %+v", run.Name, run.Status.Conditions)
			}
			return nil
		})
		if i%4 != 0 {
			g.expectSuccess(run)
		} else if run.IsSuccessful() {
			g.t.Errorf("%s succeeded", run.Name)
		}
	}
	g.expectSuccess(g.waitPipelineDone(namespace, "pipeline"))
	for _, pod := range recorded.names() {
		if strings.HasPrefix(pod, "unsigned") {
			g.t.Errorf("Pod %s started", pod)
		}
	}
}

// The controller is killed while runs wait, and killed once more while it decides.
func TestGate_DecidesEachRunOnceAfterKills(t *testing.T) {
	const runs = 200
	g := startGated(t)
	ns := g.enforced()
	recorded := g.startWaiting(ns, runs)
	g.check(g.controller.Start(t.Context()))
	g.eventually(soon, func() error {
		if len(recorded.names()) < runs/10 {
			return fmt.Errorf("%d Pods have started", len(recorded.names()))
		}
		return nil
	})
	g.check(g.controller.Kill(t.Context()))
	if err := g.countHeld(ns, 0); err == nil {
		t.Fatal("all runs were decided before the second kill: increase their number")
	}
	g.check(g.controller.Start(t.Context()))
	g.expectDecided(ns, runs, recorded)
	for name, writes := range g.auditedReleases(ns) {
		if writes != 1 {
			t.Errorf("Pod %s was released %d times, want once", name, writes)
		}
	}
}

// The API server is restarted while runs wait.
func TestGate_DecidesAfterAPIServerRestart(t *testing.T) {
	g := startGated(t)
	ns := g.enforced()
	const runs = 40
	recorded := g.startWaiting(ns, runs)
	g.check(g.controller.Start(t.Context()))
	g.check(cluster.Control(t.Context(), "kill", harness.PartAPIServer))
	g.check(cluster.Control(t.Context(), "start", harness.PartAPIServer))
	g.expectDecided(ns, runs, recorded)
}
