// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// knownRevision is the annotation that shows which selectors the API server knows.
const knownRevision = v1alpha1.ClusterPoliciesAnnotation

// enforceSelected writes the lines as the controller does, and waits until the API server
// uses them. They are there until the test ends.
func (e *env) enforceSelected(lines ...string) {
	e.t.Helper()
	revision := rand.String(10)
	e.writeSelectors(map[string]any{v1alpha1.EnforcedAnnotation: strings.Join(lines, "\n"), knownRevision: revision})
	e.waitRevision(revision)
}

// writeSelectors writes these annotations, without which there are none.
func (e *env) writeSelectors(annotations map[string]any) {
	e.t.Helper()
	write := func(ctx context.Context, annotations map[string]any) error {
		all := map[string]any{v1alpha1.EnforcedAnnotation: nil, knownRevision: nil}
		maps.Copy(all, annotations)
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": all}})
		if err != nil {
			return err
		}
		_, err = cluster.Kube.CoreV1().Namespaces().Patch(ctx, v1alpha1.PoliciesNamespace, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}
	e.cleanup(func() error { return write(cleanupContext(), nil) })
	e.check(write(e.t.Context(), annotations))
}

// waitRevision waits until the API server knows the selectors of a revision; "" stands for
// none.
func (e *env) waitRevision(want string) {
	e.t.Helper()
	e.eventually(soon, func() error { return e.knowsRevision(want) })
}

func (e *env) knowsRevision(want string) error {
	probe, err := e.as(ownAccount).Kube.CoreV1().Pods(v1alpha1.GateProbeNamespace).Create(e.t.Context(), restrictedPod("hold-probe"), dryRunCreate)
	if err != nil {
		return err
	}
	if got := probe.Annotations[knownRevision]; got != want || !harness.IsHeld(probe) {
		return fmt.Errorf("the API server knows revision %q, want %q; gates %v", got, want, probe.Spec.SchedulingGates)
	}
	return nil
}

func (e *env) restartAPIServer() {
	e.t.Helper()
	e.check(cluster.Control(e.t.Context(), "kill", harness.PartAPIServer))
	e.check(cluster.Control(e.t.Context(), "start", harness.PartAPIServer))
}

// restrictedPod returns a Pod of a TaskRun that is allowed in the namespace of the probe.
func restrictedPod(name string) *corev1.Pod {
	pod := harness.PodOfTaskRun(name)
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	return pod
}

// staged creates a namespace with a label that selectors of these tests look at.
func (e *env) staged(stage string) string {
	e.t.Helper()
	return e.namespaceLabelled(map[string]string{"stage": stage})
}

// holdsIn reports whether the Pod of a TaskRun is held, in a dry run.
func (e *env) holdsIn(namespace string) (bool, error) {
	pod, err := e.as(tektonAccount).Kube.CoreV1().Pods(namespace).Create(e.t.Context(), harness.PodOfTaskRun("any-pod"), dryRunCreate)
	return harness.IsHeld(pod), err
}

func (e *env) expectHolds(namespace string, want bool, why string) {
	e.t.Helper()
	if got, err := e.holdsIn(namespace); err != nil || got != want {
		e.t.Errorf("%s: a Pod is held: %t, %v, want %t", why, got, err, want)
	}
}

// What the label does in a namespace, a selector does without the label.
func TestSelected_IsGuardedLikeTheLabel(t *testing.T) {
	e := newEnv(t)
	e.installAdmission()
	guarded, free := e.staged("prod"), e.staged("test")
	editor := e.hostileIn(guarded, free)
	e.grant(hostile, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods/ephemeralcontainers"}, Verbs: []string{"patch"}})
	e.waitMay(hostile, true, mayPatchEphemeral)
	e.expectHolds(guarded, false, "without a ConfigMap")
	e.enforceSelected("stage In prod,canary;team DoesNotExist")
	guardedPod, freePod := e.startRun(guarded), e.startRun(free)
	if !harness.IsHeld(guardedPod) || harness.IsHeld(freePod) {
		t.Fatalf("gates: %v in the selected namespace, %v in the other", guardedPod.Spec.SchedulingGates, freePod.Spec.SchedulingGates)
	}
	for _, a := range attempts {
		if a.guard == guardOfConnections { // each policy comes into force at its own time
			e.eventually(soon, func() error {
				if err := a.try(t.Context(), editor, guardedPod); !apierrors.IsForbidden(err) {
					return fmt.Errorf("%s is not refused: %w", a.name, orUnlimited(err))
				}
				return nil
			})
		}
		t.Run(a.name, func(t *testing.T) {
			expectGuarded(t, a.try(t.Context(), editor, guardedPod), a.guard)
			if err := a.try(t.Context(), editor, freePod); err != nil {
				t.Errorf("in a namespace that is not selected: %v", err)
			}
		})
	}
	t.Run("remove the gate", func(t *testing.T) {
		remove := patchPod(`[{"op":"remove","path":"/spec/schedulingGates"}]`)
		for _, user := range []*harness.Cluster{editor, cluster} {
			expectGuarded(t, remove(t.Context(), user, guardedPod), guardOfPods)
		}
		if err := remove(t.Context(), e.as(ownAccount), guardedPod); err != nil {
			t.Errorf("our controller: %v", err)
		}
	})
	t.Run("until no line selects the namespace", func(t *testing.T) {
		e := e.sub(t)
		e.enforceSelected("stage In canary")
		e.expectHolds(guarded, false, "not selected any more")
		e.check(attempts[0].try(t.Context(), editor, guardedPod))
	})
}

// Where the label enforces, too, a Pod gets one gate.
func TestSelected_MayHaveTheLabelToo(t *testing.T) {
	e := newEnv(t)
	e.installAdmission()
	ns := e.namespaceLabelled(map[string]string{"stage": "prod", v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce, v1alpha1.SignLabel: "true"})
	e.enforceSelected("*", "stage In prod")
	pod, err := e.as(tektonAccount).Kube.CoreV1().Pods(ns).Create(t.Context(), harness.PodOfTaskRun("any-pod"), dryRunCreate)
	e.check(err)
	if len(pod.Spec.SchedulingGates) != 1 || !harness.IsHeld(pod) {
		t.Errorf("gates %v, want ours once", pod.Spec.SchedulingGates)
	}
	run, err := cluster.Tekton.TektonV1().TaskRuns(ns).Create(t.Context(), localTaskRun(), dryRunCreate)
	e.check(err)
	if got := run.Spec.TaskRef; got.Resolver != "cluster" || len(got.Params) != 3 {
		t.Errorf("the taskRef is %+v, want the cluster resolver", got)
	}
	_, err = cluster.Kube.CoreV1().Pods(ns).Create(t.Context(), harness.PodOfTaskRun("any-pod"), dryRunCreate)
	expectGuarded(t, err, guardOfPods)
}

func localTaskRun() *v1.TaskRun {
	return &v1.TaskRun{ObjectMeta: metav1.ObjectMeta{GenerateName: "r-"}, Spec: v1.TaskRunSpec{TaskRef: &v1.TaskRef{Name: "any"}}}
}

func localPipelineRun() *v1.PipelineRun {
	return &v1.PipelineRun{ObjectMeta: metav1.ObjectMeta{GenerateName: "r-"}, Spec: v1.PipelineRunSpec{PipelineRef: &v1.PipelineRef{Name: "any"}}}
}

// localReferences returns the resolvers that local references get, in dry runs.
func (e *env) localReferences(namespace string) (string, error) {
	taskRun, taskErr := cluster.Tekton.TektonV1().TaskRuns(namespace).Create(e.t.Context(), localTaskRun(), dryRunCreate)
	pipelineRun, pipelineErr := cluster.Tekton.TektonV1().PipelineRuns(namespace).Create(e.t.Context(), localPipelineRun(), dryRunCreate)
	if err := errors.Join(taskErr, pipelineErr); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %s", taskRun.Spec.TaskRef.Resolver, pipelineRun.Spec.PipelineRef.Resolver), nil
}

// Local references get the resolver in selected namespaces. Where nothing rewrites them,
// they are refused.
func TestSelected_HasNoLocalReferences(t *testing.T) {
	e := newEnv(t)
	e.installAdmission()
	selected, free := e.staged("prod"), e.staged("test")
	e.enforceSelected("stage In prod")
	for ns, want := range map[string]string{selected: "cluster cluster", free: " "} {
		if got, err := e.localReferences(ns); err != nil || got != want {
			t.Errorf("resolvers %q, %v, want %q", got, err, want)
		}
	}
	e.removeManifest("500-rewrite-taskruns.yaml")
	e.removeManifest("501-rewrite-pipelineruns.yaml")
	e.eventually(soon, func() error {
		_, err := e.localReferences(selected)
		if err == nil || strings.Count(err.Error(), "Tekton does not verify a") != 2 {
			return fmt.Errorf("local references: %w", orUnlimited(err))
		}
		return nil
	})
	if got, err := e.localReferences(free); err != nil || got != " " {
		t.Errorf("resolvers %q, %v in a namespace that is not selected", got, err)
	}
}

// Somebody who may only change the labels of a namespace cannot end its enforcement: the last
// policy in mode enforce goes on to select it.
func TestSelected_StaysWithoutTheVerbOpen(t *testing.T) {
	e := newEnv(t)
	e.installAdmission()
	ns, labelled := e.staged("prod"), e.namespaceLabelled(map[string]string{"stage": "prod", v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce})
	e.enforceSelected("stage In prod;paused DoesNotExist", "stage In canary")
	const provisioner, opener = "provisioner", "opener"
	writes := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"namespaces", "namespaces/status", "namespaces/finalize"}, Verbs: []string{"get", "patch", "update"}}
	e.grant(provisioner, writes)
	e.grant(opener, writes, rbacv1.PolicyRule{APIGroups: []string{v1alpha1.Group}, Resources: []string{"gates"}, ResourceNames: []string{ns}, Verbs: []string{"open"}})
	relabel := func(user, namespace, labels string, subresources ...string) error {
		_, err := e.as(user).Kube.CoreV1().Namespaces().Patch(t.Context(), namespace, types.MergePatchType,
			[]byte(`{"metadata":{"labels":`+labels+`}}`), dryRunPatch, subresources...)
		return err
	}
	e.eventually(soon, func() error { // the rights and the policy come into force
		if err := relabel(provisioner, ns, `{"stage":"test"}`); err == nil || !strings.Contains(err.Error(), guardOfNamespaces) {
			return fmt.Errorf("a change of the label stage: %w", orUnlimited(err))
		}
		return relabel(opener, ns, `{"other":"label"}`)
	})
	for _, labels := range []string{`{"stage":"test"}`, `{"stage":null}`, `{"paused":"yes"}`, `null`, `{"stage":"test","trustedresources.tekton.dev/verify":"warn"}`} {
		t.Run(labels, func(t *testing.T) {
			err := relabel(provisioner, ns, labels)
			expectGuarded(t, err, guardOfNamespaces)
			if !strings.Contains(orUnlimited(err).Error(), "the labels with which a ClusterVerificationPolicy enforces namespace "+ns+" stay") {
				t.Errorf("the message is %v", err)
			}
			expectGuarded(t, relabel(provisioner, ns, labels, "status"), guardOfNamespaces)
			if err := relabel(opener, ns, labels); err != nil {
				t.Errorf("with the verb open: %v", err)
			}
		})
	}
	for _, labels := range []string{`{"other":"label"}`, `{"stage":"canary","paused":"yes"}`, `{"stage":"test","trustedresources.tekton.dev/verify":"enforce"}`} {
		if err := relabel(provisioner, ns, labels); err != nil {
			t.Errorf("%s, which keeps the namespace enforced: %v", labels, err)
		}
	}
	if err := relabel(provisioner, labelled, `{"stage":"test"}`); err != nil {
		t.Errorf("the label still enforces: %v", err)
	}
	err := relabel(provisioner, labelled, `{"trustedresources.tekton.dev/verify":null}`)
	expectGuarded(t, err, guardOfNamespaces)
	if !strings.Contains(orUnlimited(err).Error(), "the label trustedresources.tekton.dev/verify of namespace "+labelled+" stays enforce") {
		t.Errorf("the message is %v", err)
	}
	e.enforceSelected()
	if err := relabel(provisioner, ns, `{"stage":"test"}`); err != nil {
		t.Errorf("without lines: %v", err)
	}
}

// The first Pods of a namespace are held, however soon they come.
func TestSelected_HoldsTheFirstPodOfANamespace(t *testing.T) {
	e := newEnv(t)
	e.installAdmission()
	e.enforceSelected("stage In prod")
	namespaces := cluster.Kube.CoreV1().Namespaces()
	tekton := e.as(tektonAccount)
	for i := range 40 {
		stage := []string{"prod", "test"}[i%2]
		ns, err := namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "new-", Labels: map[string]string{"stage": stage}}}, metav1.CreateOptions{})
		e.check(err)
		e.cleanup(func() error { return namespaces.Delete(cleanupContext(), ns.Name, metav1.DeleteOptions{}) })
		var pod *corev1.Pod
		e.eventually(soon, func() error { // the first one that is accepted: there is no ServiceAccount at first
			pod, err = tekton.Kube.CoreV1().Pods(ns.Name).Create(t.Context(), harness.PodOfTaskRun("any-pod"), dryRunCreate)
			return err
		})
		if harness.IsHeld(pod) != (stage == "prod") {
			t.Errorf("stage %s: the first Pod of a namespace has the gates %v", stage, pod.Spec.SchedulingGates)
		}
	}
}

// After a restart, the API server does not accept the Pod of a TaskRun before it knows the
// selectors.
func TestSelected_IsHeldAtTheFirstRequestAfterARestart(t *testing.T) {
	e := newEnv(t)
	e.installAdmission()
	selected, free, labelled := e.staged("prod"), e.staged("test"), e.enforced()
	e.enforceSelected("stage In prod")
	tekton := e.as(tektonAccount)
	for range 3 {
		e.restartAPIServer()
		accepted, refused := map[string]int{}, map[string]int{}
		started := time.Now()
		e.eventually(2*soon, func() error { // until all three answer
			for ns, want := range map[string]bool{selected: true, labelled: true, free: false} {
				pod, err := tekton.Kube.CoreV1().Pods(ns).Create(t.Context(), harness.PodOfTaskRun("any-pod"), dryRunCreate)
				switch {
				case err != nil:
					refused[strings.ReplaceAll(err.Error(), ns, "NAMESPACE")]++
				case harness.IsHeld(pod) != want:
					t.Errorf("a Pod that was accepted %v after the start has the gates %v", time.Since(started), pod.Spec.SchedulingGates)
					fallthrough
				default:
					accepted[ns]++
				}
			}
			if len(accepted) < 3 {
				return fmt.Errorf("accepted %v, refused %v", accepted, refused)
			}
			return nil
		})
		t.Logf("all accepted after %v, refused before: %v", time.Since(started).Round(time.Millisecond), refused)
	}
	e.namespaceLabelled(nil) // waits until the controller manager works again
}

// A line that is not understood enforces. Without lines, nothing is different.
func TestSelected_FollowsTheLines(t *testing.T) {
	e := newEnv(t)
	e.installAdmission()
	ns := e.staged("prod")
	pod := harness.PodOfTaskRun("any-pod")
	pod.Spec.AutomountServiceAccountToken = new(false) // its volume has a random name
	before, err := e.as(tektonAccount).Kube.CoreV1().Pods(ns).Create(t.Context(), pod, dryRunCreate)
	e.check(err)
	for lines, want := range map[string]bool{
		"": false, "\n": false, "*": true, "stage In prod": true, "stage NotIn prod": false, "stage In test\nstage In prod": true,
		"stage In ,test": false, "stage In ,prod": true, "stage NotIn ": true, "team NotIn a": true, "stage Exists": true, "stage DoesNotExist": false,
		"stage Exists;team Exists": false, "stage Like prod": true, "stage In": true, "kubernetes.io/metadata.name In " + ns: true,
	} {
		e.enforceSelected(lines)
		e.expectHolds(ns, want, lines)
	}
	e.writeSelectors(map[string]any{knownRevision: "without lines"})
	e.waitRevision("without lines")
	after, err := e.as(tektonAccount).Kube.CoreV1().Pods(ns).Create(t.Context(), pod, dryRunCreate)
	e.check(err)
	if before.Spec.String() != after.Spec.String() || fmt.Sprint(before.Annotations, before.Labels) != fmt.Sprint(after.Annotations, after.Labels) {
		t.Errorf("a Pod in a namespace that is not selected was\n%v\nand is\n%v", before, after)
	}
	e.writeSelectors(nil)
	e.waitRevision("")
	e.expectHolds(ns, false, "without annotations")
}

// Only the Pod with which the controller asks gets the annotation.
func TestSelected_TellsTheProbeTheRevision(t *testing.T) {
	e := newEnv(t)
	e.installAdmission()
	ns := e.staged("prod")
	e.enforceSelected("*")
	for namespace, name := range map[string]string{ns: "hold-probe", v1alpha1.GateProbeNamespace: "other-pod"} {
		pod, err := e.as(tektonAccount).Kube.CoreV1().Pods(namespace).Create(t.Context(), restrictedPod(name), dryRunCreate)
		e.check(err)
		if _, found := pod.Annotations[knownRevision]; found || !harness.IsHeld(pod) {
			t.Errorf("%s/%s has the annotations %v and gates %v", namespace, name, pod.Annotations, pod.Spec.SchedulingGates)
		}
	}
	annotated := restrictedPod("hold-probe")
	annotated.Annotations = map[string]string{"example.dev/own": "kept", knownRevision: "forged"}
	pod, err := e.as(ownAccount).Kube.CoreV1().Pods(v1alpha1.GateProbeNamespace).Create(t.Context(), annotated, dryRunCreate)
	e.check(err)
	if pod.Annotations["example.dev/own"] != "kept" || pod.Annotations[knownRevision] == "forged" || len(pod.Spec.SchedulingGates) != 1 {
		t.Errorf("annotations %v, gates %v", pod.Annotations, pod.Spec.SchedulingGates)
	}
}

// The API server checks the expressions against the types of objects and parameters.
func TestSelected_PoliciesHaveNoWarnings(t *testing.T) {
	e := newEnv(t)
	e.installAdmission()
	e.expectNoWarnings("taskruns."+v1alpha1.Group, "pipelineruns."+v1alpha1.Group, guardOfPods, guardOfConnections, guardOfNamespaces)
}
