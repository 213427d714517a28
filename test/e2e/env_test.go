package e2e

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

const pollEvery = 50 * time.Millisecond

var (
	// soon is the time limit for everything that the controller does without
	// waiting for another system.
	soon = harness.TimeLimit(30 * time.Second)
	// afterFailover also leaves time for a lease to expire.
	afterFailover = harness.TimeLimit(time.Minute)
)

// signAll is the configuration that signs every kind with the x509 signer.
var signAll = harness.SignAll()

// env is what one test works with: a signing key, and a controller that uses it.
type env struct {
	t          *testing.T
	secretsDir string
	public     crypto.PublicKey
	controller *harness.Controller
	canary     string // an opted-in namespace, see waitOptedOut
}

// startController runs a controller with a new key until the test ends. The
// controller signs all kinds in opted-in namespaces.
func startController(t *testing.T, flags ...string) *env {
	t.Helper()
	e := newEnv(t)
	e.controller = e.addReplica("controller", flags...)
	return e
}

// newEnv makes a new signing key and configures the cluster to sign all kinds. It
// starts no controller.
func newEnv(t *testing.T) *env {
	t.Helper()
	e := &env{t: t, secretsDir: t.TempDir()}
	secret, public, err := fixtures.CosignSecret()
	e.check(err)
	e.public = public
	e.check(secret.Write(e.secretsDir))
	e.configure(signAll)
	return e
}

// addReplica starts one more controller. If the test fails, the end of its log is
// shown.
func (e *env) addReplica(name string, flags ...string) *harness.Controller {
	e.t.Helper()
	return e.addReplicaWithEnv(nil, name, flags...)
}

func (e *env) addReplicaWithEnv(environment []string, name string, flags ...string) *harness.Controller {
	e.t.Helper()
	controller, err := cluster.AddControllerIn(e.t.Context(), environment, name, e.secretsDir, flags...)
	e.check(err)
	e.t.Cleanup(func() {
		if e.t.Failed() {
			log, _ := controller.Log()
			e.t.Logf("end of the log of %s:\n%s", name, lastLines(log, 40))
		}
		if err := controller.Remove(cleanupContext()); err != nil {
			e.t.Error(err)
		}
	})
	return controller
}

func lastLines(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// configure replaces the data of the ConfigMap chains-config.
func (e *env) configure(data map[string]string) {
	e.t.Helper()
	e.check(cluster.Configure(e.t.Context(), data))
}

func (e *env) check(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

// namespace creates an opted-in namespace that is deleted when the test ends.
func (e *env) namespace() string {
	e.t.Helper()
	return e.namespaceLabelled(map[string]string{config.NamespaceLabel: "true"})
}

func (e *env) namespaceLabelled(labels map[string]string) string {
	e.t.Helper()
	ns, err := cluster.Kube.CoreV1().Namespaces().Create(e.t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labels},
	}, metav1.CreateOptions{})
	e.check(err)
	e.cleanup(func() error {
		return cluster.Kube.CoreV1().Namespaces().Delete(cleanupContext(), ns.Name, metav1.DeleteOptions{})
	})
	e.eventually(soon, func() error { // a Pod needs this ServiceAccount
		_, err := cluster.Kube.CoreV1().ServiceAccounts(ns.Name).Get(e.t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return ns.Name
}

// cleanup calls undo at the end of the test. The context of the test has ended by
// then, so undo uses cleanupContext.
func (e *env) cleanup(undo func() error) {
	e.t.Helper()
	e.t.Cleanup(func() {
		if err := undo(); err != nil {
			e.t.Error(err)
		}
	})
}

func cleanupContext() context.Context { return context.Background() }

// labelNamespace sets the opt-in label of a namespace. An empty value removes the
// label.
func (e *env) labelNamespace(namespace, value string) {
	e.t.Helper()
	e.check(cluster.Label(e.t.Context(), namespace, value))
}

// eventually polls until check returns nil. Otherwise the test fails with the last
// error of check.
func (e *env) eventually(within time.Duration, check func() error) {
	e.t.Helper()
	last := errors.New("the check did not run")
	err := wait.PollUntilContextTimeout(e.t.Context(), pollEvery, within, true, func(context.Context) (bool, error) {
		last = check()
		return last == nil, nil
	})
	if err != nil {
		e.t.Fatalf("still failing after %v: %v", within, last)
	}
}

// newTask returns a valid Task, changed by the modifiers.
func newTask(namespace, name string, modifiers ...func(*v1.Task)) *v1.Task {
	t := &v1.Task{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1.TaskSpec{Steps: []v1.Step{{Name: "hello", Image: "alpine", Script: "echo hello"}}},
	}
	for _, modify := range modifiers {
		modify(t)
	}
	return t
}

func (e *env) createTask(t *v1.Task) *v1.Task {
	e.t.Helper()
	created, err := cluster.Tekton.TektonV1().Tasks(t.Namespace).Create(e.t.Context(), t, metav1.CreateOptions{})
	e.check(err)
	return created
}

func (e *env) getTask(namespace, name string) *v1.Task {
	e.t.Helper()
	t, err := cluster.Tekton.TektonV1().Tasks(namespace).Get(e.t.Context(), name, metav1.GetOptions{})
	e.check(err)
	return t
}

// patchTask applies a JSON merge patch to a Task.
func (e *env) patchTask(namespace, name, mergePatch string) {
	e.t.Helper()
	_, err := cluster.Tekton.TektonV1().Tasks(namespace).Patch(e.t.Context(), name, types.MergePatchType, []byte(mergePatch), metav1.PatchOptions{})
	e.check(err)
}

// waitSigned waits until Tekton's verifier accepts the signature of the Task with the
// key of e.
func (e *env) waitSigned(namespace, name string) *v1.Task {
	e.t.Helper()
	var got *v1.Task
	e.eventually(soon, func() error {
		var err error
		if got, err = cluster.Tekton.TektonV1().Tasks(namespace).Get(e.t.Context(), name, metav1.GetOptions{}); err != nil {
			return err
		}
		return harness.Verify(e.t.Context(), got, e.public)
	})
	return got
}

func signature(obj metav1.Object) string {
	return obj.GetAnnotations()[trustedresources.SignatureAnnotation]
}

// waitEvent waits for an Event about an object whose message contains all texts.
func (e *env) waitEvent(obj metav1.Object, reason string, texts ...string) {
	e.t.Helper()
	e.waitEventWithin(soon, obj, reason, texts...)
}

func (e *env) waitEventWithin(within time.Duration, obj metav1.Object, reason string, texts ...string) {
	e.t.Helper()
	e.eventually(within, func() error {
		namespace := obj.GetNamespace()
		events, err := cluster.Kube.CoreV1().Events(namespace).List(e.t.Context(), metav1.ListOptions{
			FieldSelector: "reason=" + reason + ",involvedObject.name=" + obj.GetName(),
		})
		if err != nil {
			return err
		}
		var found []string
		for _, event := range events.Items {
			found = append(found, event.Message)
			if event.InvolvedObject.UID == obj.GetUID() && containsAll(event.Message, texts) {
				return nil
			}
		}
		return fmt.Errorf("no Event %s on %s/%s with %q; found %q", reason, namespace, obj.GetName(), texts, found)
	})
}

// expectNoWrites watches a namespace for the given time and fails the test if any
// Task changes.
func (e *env) expectNoWrites(namespace string, during time.Duration) {
	e.t.Helper()
	if writes := e.countWritesDuring(namespace, during); writes > 0 {
		e.t.Errorf("%d writes to Tasks of namespace %s within %v, want none", writes, namespace, during)
	}
}

// countWritesDuring counts the changes to Tasks of a namespace from now on. It always
// takes the whole time.
func (e *env) countWritesDuring(namespace string, during time.Duration) (writes int) {
	e.t.Helper()
	seconds := int64(during.Seconds())
	list, err := cluster.Tekton.TektonV1().Tasks(namespace).List(e.t.Context(), metav1.ListOptions{})
	e.check(err)
	watcher, err := cluster.Tekton.TektonV1().Tasks(namespace).Watch(e.t.Context(), metav1.ListOptions{
		ResourceVersion: list.ResourceVersion, TimeoutSeconds: &seconds,
	})
	e.check(err)
	defer watcher.Stop()
	for change := range watcher.ResultChan() { // closed after TimeoutSeconds
		if obj, ok := change.Object.(metav1.Object); ok {
			e.t.Logf("%s %s/%s at resourceVersion %s", change.Type, obj.GetNamespace(), obj.GetName(), obj.GetResourceVersion())
			writes++
		}
	}
	return writes
}

// waitLogged waits for a line of the controller's log that contains all texts.
func (e *env) waitLogged(controller *harness.Controller, texts ...string) {
	e.t.Helper()
	e.eventually(soon, func() error {
		log, err := controller.Log()
		if err != nil {
			return err
		}
		for line := range strings.Lines(log) {
			if containsAll(line, texts) {
				return nil
			}
		}
		return fmt.Errorf("no line in the log of %s contains %q", controller.Name, texts)
	})
}

// kubectlApply runs kubectl apply with a manifest and returns its output.
func (e *env) kubectlApply(manifest string, args ...string) string {
	e.t.Helper()
	out, err := cluster.RunKubectl(e.t.Context(), manifest, append([]string{"apply", "-f", "-"}, args...)...)
	e.check(err)
	return out
}

// containsAll reports whether text contains all parts.
func containsAll(text string, parts []string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
}

func with(base map[string]string, more map[string]string) map[string]string {
	merged := maps.Clone(base)
	maps.Copy(merged, more)
	return merged
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
