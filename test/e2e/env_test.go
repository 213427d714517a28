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

const (
	// soon is how long the controller may take for something that needs
	// nothing but itself.
	soon = 30 * time.Second
	// afterFailover leaves time for a lease to run out first.
	afterFailover = time.Minute
	pollEvery     = 50 * time.Millisecond
)

// signAll makes every kind signed with x509.
var signAll = harness.SignAll()

// env is a controller that runs for one test.
type env struct {
	*testing.T
	secretsDir string
	public     crypto.PublicKey
	controller *harness.Controller
	canary     string // an opted-in namespace
}

// start runs a controller with a new key that signs all kinds in opted-in
// namespaces, until the test ends.
func start(t *testing.T, flags ...string) *env {
	t.Helper()
	e := prepare(t)
	e.controller = e.replica("controller", flags...)
	return e
}

// prepare does all that start does before there is a controller.
func prepare(t *testing.T) *env {
	t.Helper()
	e := &env{T: t, secretsDir: t.TempDir()}
	secret, public, err := fixtures.CosignSecret()
	e.check(err)
	e.public = public
	e.check(secret.Write(e.secretsDir))
	e.configure(signAll)
	return e
}

// replica starts one more controller. Its log is shown when the test fails.
func (e *env) replica(name string, flags ...string) *harness.Controller {
	e.Helper()
	return e.replicaIn(nil, name, flags...)
}

func (e *env) replicaIn(environment []string, name string, flags ...string) *harness.Controller {
	e.Helper()
	controller, err := cluster.AddControllerIn(e.Context(), environment, name, e.secretsDir, flags...)
	e.check(err)
	e.Cleanup(func() {
		if e.Failed() {
			log, _ := controller.Log()
			e.Logf("end of the log of %s:\n%s", name, tail(log, 40))
		}
		if err := controller.Remove(cleanupContext()); err != nil {
			e.Error(err)
		}
	})
	return controller
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// configure makes data the whole of chains-config.
func (e *env) configure(data map[string]string) {
	e.Helper()
	e.check(cluster.Configure(e.Context(), data))
}

func (e *env) check(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// namespace makes a namespace that is opted in, and goes with the test.
func (e *env) namespace() string {
	e.Helper()
	return e.namespaceWith(map[string]string{config.NamespaceLabel: "true"})
}

func (e *env) namespaceWith(labels map[string]string) string {
	e.Helper()
	ns, err := cluster.Kube.CoreV1().Namespaces().Create(e.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labels},
	}, metav1.CreateOptions{})
	e.check(err)
	e.cleanup(func() error {
		return cluster.Kube.CoreV1().Namespaces().Delete(cleanupContext(), ns.Name, metav1.DeleteOptions{})
	})
	e.eventually(soon, func() error { // no Pod can be made before
		_, err := cluster.Kube.CoreV1().ServiceAccounts(ns.Name).Get(e.Context(), "default", metav1.GetOptions{})
		return err
	})
	return ns.Name
}

// cleanup undoes something at the end of the test, whose context is over by
// then.
func (e *env) cleanup(undo func() error) {
	e.Helper()
	e.Cleanup(func() {
		if err := undo(); err != nil {
			e.Error(err)
		}
	})
}

func cleanupContext() context.Context { return context.Background() }

// label sets or, with an empty value, removes the opt-in label of a namespace.
func (e *env) label(namespace, value string) {
	e.Helper()
	e.check(cluster.Label(e.Context(), namespace, value))
}

// eventually polls until check returns nil.
func (e *env) eventually(within time.Duration, check func() error) {
	e.Helper()
	last := errors.New("never checked")
	err := wait.PollUntilContextTimeout(e.Context(), pollEvery, within, true, func(context.Context) (bool, error) {
		last = check()
		return last == nil, nil
	})
	if err != nil {
		e.Fatalf("not within %v: %v", within, last)
	}
}

// task is a valid Task, changed by the modifiers.
func task(namespace, name string, modifiers ...func(*v1.Task)) *v1.Task {
	t := &v1.Task{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1.TaskSpec{Steps: []v1.Step{{Name: "hello", Image: "alpine", Script: "echo hello"}}},
	}
	for _, modify := range modifiers {
		modify(t)
	}
	return t
}

func (e *env) create(t *v1.Task) *v1.Task {
	e.Helper()
	created, err := cluster.Tekton.TektonV1().Tasks(t.Namespace).Create(e.Context(), t, metav1.CreateOptions{})
	e.check(err)
	return created
}

func (e *env) get(namespace, name string) *v1.Task {
	e.Helper()
	t, err := cluster.Tekton.TektonV1().Tasks(namespace).Get(e.Context(), name, metav1.GetOptions{})
	e.check(err)
	return t
}

// patch merges a change into a Task.
func (e *env) patch(namespace, name, mergePatch string) {
	e.Helper()
	_, err := cluster.Tekton.TektonV1().Tasks(namespace).Patch(e.Context(), name, types.MergePatchType, []byte(mergePatch), metav1.PatchOptions{})
	e.check(err)
}

// signed waits until Tekton's verifier accepts the Task with the key of e.
func (e *env) signed(namespace, name string) *v1.Task {
	e.Helper()
	var got *v1.Task
	e.eventually(soon, func() error {
		var err error
		if got, err = cluster.Tekton.TektonV1().Tasks(namespace).Get(e.Context(), name, metav1.GetOptions{}); err != nil {
			return err
		}
		return harness.Verify(e.Context(), got, e.public)
	})
	return got
}

func signature(obj metav1.Object) string {
	return obj.GetAnnotations()[trustedresources.SignatureAnnotation]
}

// event waits for an Event about an object whose message says all of texts.
func (e *env) event(obj metav1.Object, reason string, texts ...string) {
	e.Helper()
	e.eventWithin(soon, obj, reason, texts...)
}

func (e *env) eventWithin(within time.Duration, obj metav1.Object, reason string, texts ...string) {
	e.Helper()
	e.eventually(within, func() error {
		namespace := obj.GetNamespace()
		events, err := cluster.Kube.CoreV1().Events(namespace).List(e.Context(), metav1.ListOptions{
			FieldSelector: "reason=" + reason + ",involvedObject.name=" + obj.GetName(),
		})
		if err != nil {
			return err
		}
		var found []string
		for _, event := range events.Items {
			found = append(found, event.Message)
			says := func(text string) bool { return strings.Contains(event.Message, text) }
			if event.InvolvedObject.UID == obj.GetUID() && !slices.ContainsFunc(texts, func(text string) bool { return !says(text) }) {
				return nil
			}
		}
		return fmt.Errorf("no Event %s on %s/%s with %q; found %q", reason, namespace, obj.GetName(), texts, found)
	})
}

// untouched holds still for a while and fails if any Task of the namespace is
// written.
func (e *env) untouched(namespace string, during time.Duration) {
	e.Helper()
	if writes := e.writesDuring(namespace, during); writes > 0 {
		e.Errorf("%d writes within %v, want none", writes, during)
	}
}

// writesDuring counts the changes to Tasks of a namespace from now on.
func (e *env) writesDuring(namespace string, during time.Duration) (writes int) {
	e.Helper()
	seconds := int64(during.Seconds())
	list, err := cluster.Tekton.TektonV1().Tasks(namespace).List(e.Context(), metav1.ListOptions{})
	e.check(err)
	watcher, err := cluster.Tekton.TektonV1().Tasks(namespace).Watch(e.Context(), metav1.ListOptions{
		ResourceVersion: list.ResourceVersion, TimeoutSeconds: &seconds,
	})
	e.check(err)
	defer watcher.Stop()
	for change := range watcher.ResultChan() { // closed after TimeoutSeconds
		if obj, ok := change.Object.(metav1.Object); ok {
			e.Logf("%s %s/%s at resourceVersion %s", change.Type, obj.GetNamespace(), obj.GetName(), obj.GetResourceVersion())
			writes++
		}
	}
	return writes
}

// logged waits for a line of the controller's log with all of texts.
func (e *env) logged(controller *harness.Controller, texts ...string) {
	e.Helper()
	e.eventually(soon, func() error {
		log, err := controller.Log()
		if err != nil {
			return err
		}
		for line := range strings.Lines(log) {
			if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
				return nil
			}
		}
		return fmt.Errorf("no line of the log has %q", texts)
	})
}

// apply gives a manifest to kubectl.
func (e *env) apply(manifest string, args ...string) string {
	e.Helper()
	out, err := cluster.RunKubectl(e.Context(), manifest, append([]string{"apply", "-f", "-"}, args...)...)
	e.check(err)
	return out
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
