// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// Tekton verifies only references that have a resolver. With config/admission every
// reference has a resolver, no matter who creates the run.
func TestAdmission_MakesTektonVerifyLocalReferences(t *testing.T) {
	e := startController(t)
	ns := e.namespace()
	e.check(cluster.Trust(t.Context(), ns, e.public))
	e.createTask(newTask(ns, "signed"))
	e.createPipeline(ns, "signed", "signed")
	e.createPipeline(ns, "signed-of-unsigned", "unsigned")
	e.waitSigned(ns, "signed")
	e.waitPipelineSigned(ns, "signed")
	e.waitPipelineSigned(ns, "signed-of-unsigned")
	e.check(e.controller.Stop(t.Context()))
	e.createTask(newTask(ns, "unsigned"))
	e.createPipeline(ns, "unsigned", "signed")

	// Tekton ignores the kind and apiVersion in a reference of a TaskRun.
	unsigned := []v1.TaskRef{
		{Name: "unsigned"},
		{Name: "unsigned", Kind: v1.NamespacedTaskKind, APIVersion: "tekton.dev/v1"},
		{Name: "unsigned", Kind: "Anything", APIVersion: "example.dev/v1"},
	}
	t.Run("unsigned resources run without the policies", func(t *testing.T) {
		e := e.sub(t)
		for _, ref := range unsigned {
			e.expectSuccess(e.runTaskRef(ns, ref))
		}
		e.expectSuccess(e.runLocalPipeline(ns, "unsigned"))
		e.expectSuccess(e.runLocalPipeline(ns, "signed-of-unsigned"))
	})

	e.installAdmission()

	t.Run("signed Task runs", func(t *testing.T) {
		e := e.sub(t)
		run := e.runTaskRef(ns, v1.TaskRef{Name: "signed"})
		e.expectSuccess(run)
		e.expectRecorded(run.Status.Provenance, resource.Task, ns, "signed")
		if c := run.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified); !c.IsTrue() {
			t.Errorf("TrustedResourcesVerified is %+v, want True", c)
		}
		if got := run.Labels["tekton.dev/task"]; got != "signed" {
			t.Errorf("label tekton.dev/task is %q, want signed", got)
		}
	})
	t.Run("unsigned Task is refused", func(t *testing.T) {
		e := e.sub(t)
		for _, ref := range unsigned {
			e.expectRefused(e.runTaskRef(ns, ref))
		}
	})
	t.Run("signed Pipeline of a signed Task runs", func(t *testing.T) {
		e := e.sub(t)
		run := e.runLocalPipeline(ns, "signed")
		e.expectSuccess(run)
		e.expectRecorded(run.Status.Provenance, resource.Pipeline, ns, "signed")
		e.expectRecorded(e.onlyChild(run).Status.Provenance, resource.Task, ns, "signed")
		if got := run.Labels["tekton.dev/pipeline"]; got != "signed" {
			t.Errorf("label tekton.dev/pipeline is %q, want signed", got)
		}
	})
	t.Run("unsigned Pipeline is refused", func(t *testing.T) {
		e := e.sub(t)
		run := e.runLocalPipeline(ns, "unsigned")
		if c := run.Status.GetCondition(apis.ConditionSucceeded); !c.IsFalse() || c.Reason != "ResourceVerificationFailed" {
			t.Errorf("got %s %s: %s; want ResourceVerificationFailed", c.Status, c.Reason, c.Message)
		}
	})
	t.Run("signed Pipeline of an unsigned Task is refused", func(t *testing.T) {
		e := e.sub(t)
		run := e.runLocalPipeline(ns, "signed-of-unsigned")
		if c := run.Status.GetCondition(apis.ConditionSucceeded); !c.IsFalse() {
			t.Errorf("the PipelineRun: got %s %s: %s; want it to fail", c.Status, c.Reason, c.Message)
		}
		e.expectRefused(e.onlyChild(run))
	})
	t.Run("user with the edit role gets the same results", func(t *testing.T) {
		e := e.sub(t)
		editor := e.asEditor(ns)
		run, err := editor.RunLocalTask(t.Context(), ns, "signed", soon)
		e.check(err)
		e.expectSuccess(run)
		run, err = editor.RunLocalTask(t.Context(), ns, "unsigned", soon)
		e.check(err)
		e.expectRefused(run)
	})
}

func (e *env) installAdmission() {
	e.t.Helper()
	e.cleanup(func() error { return cluster.RemoveAdmission(cleanupContext()) })
	e.check(cluster.InstallAdmission(e.t.Context()))
}

// createPipeline creates a Pipeline with one Task, which it names without a resolver.
func (e *env) createPipeline(namespace, name, task string) {
	e.t.Helper()
	_, err := cluster.Tekton.TektonV1().Pipelines(namespace).Create(e.t.Context(), &v1.Pipeline{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1.PipelineSpec{Tasks: []v1.PipelineTask{{Name: "only", TaskRef: &v1.TaskRef{Name: task}}}},
	}, metav1.CreateOptions{})
	e.check(err)
}

func (e *env) waitPipelineSigned(namespace, name string) {
	e.t.Helper()
	e.eventually(soon, func() error {
		pipeline, err := cluster.Resource(e.t.Context(), resource.Pipeline, namespace, name)
		if err != nil {
			return err
		}
		return harness.Verify(e.t.Context(), pipeline, e.public)
	})
}

func (e *env) runTaskRef(namespace string, ref v1.TaskRef) *v1.TaskRun {
	e.t.Helper()
	run, err := cluster.Run(e.t.Context(), &v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "run-"},
		Spec:       v1.TaskRunSpec{TaskRef: &ref},
	}, soon)
	e.check(err)
	return run
}

func (e *env) runLocalPipeline(namespace, pipeline string) *v1.PipelineRun {
	e.t.Helper()
	runs := cluster.Tekton.TektonV1().PipelineRuns(namespace)
	run, err := runs.Create(e.t.Context(), &v1.PipelineRun{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "run-"},
		Spec:       v1.PipelineRunSpec{PipelineRef: &v1.PipelineRef{Name: pipeline}},
	}, metav1.CreateOptions{})
	e.check(err)
	name := run.Name
	e.eventually(soon, func() error {
		if run, err = runs.Get(e.t.Context(), name, metav1.GetOptions{}); err == nil && !run.IsDone() {
			err = fmt.Errorf("PipelineRun %s/%s: %+v", namespace, name, run.Status.GetCondition(apis.ConditionSucceeded))
		}
		return err
	})
	return run
}

// onlyChild returns the TaskRun of a PipelineRun that has one.
func (e *env) onlyChild(run *v1.PipelineRun) *v1.TaskRun {
	e.t.Helper()
	children, err := cluster.Tekton.TektonV1().TaskRuns(run.Namespace).List(e.t.Context(), metav1.ListOptions{
		LabelSelector: "tekton.dev/pipelineRun=" + run.Name,
	})
	e.check(err)
	if len(children.Items) != 1 {
		e.t.Fatalf("PipelineRun %s has %d TaskRuns, want 1", run.Name, len(children.Items))
	}
	return &children.Items[0]
}

func (e *env) expectSuccess(run interface {
	GetName() string
	GetStatusCondition() apis.ConditionAccessor
}) {
	e.t.Helper()
	if c := run.GetStatusCondition().GetCondition(apis.ConditionSucceeded); !c.IsTrue() {
		e.t.Errorf("%s: got %s %s: %s; want success", run.GetName(), c.Status, c.Reason, c.Message)
	}
}

// expectRecorded requires that a run has recorded the URI of a resource and the
// checksum that was signed.
func (e *env) expectRecorded(provenance *v1.Provenance, kind resource.Kind, namespace, name string) {
	e.t.Helper()
	obj, err := cluster.Resource(e.t.Context(), kind, namespace, name)
	e.check(err)
	checksum, err := obj.Checksum()
	e.check(err)
	if provenance == nil || provenance.RefSource == nil {
		e.t.Fatalf("status.provenance is %+v, want a refSource", provenance)
	}
	got := provenance.RefSource
	uri := fmt.Sprintf("/apis/tekton.dev/v1/namespaces/%s/%s/%s@%s", namespace, strings.ToLower(string(kind)), name, obj.GetUID())
	if got.URI != uri || got.Digest["sha256"] != fmt.Sprintf("%x", checksum) {
		e.t.Errorf("got refSource %+v, want %s with checksum %x", got, uri, checksum)
	}
}

// asEditor returns the cluster with the identity of a user who may edit Tekton's
// resources in one namespace and has no other permission.
func (e *env) asEditor(namespace string) *harness.Cluster {
	e.t.Helper()
	const user = "editor"
	_, err := cluster.Kube.RbacV1().RoleBindings(namespace).Create(e.t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "tekton-aggregate-edit"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}, metav1.CreateOptions{})
	e.check(err)
	cfg := rest.CopyConfig(cluster.Admin)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: user}
	as := *cluster
	as.Tekton, err = versioned.NewForConfig(cfg)
	e.check(err)
	e.eventually(soon, func() error { // the API server's cache of RoleBindings
		_, err := as.Tekton.TektonV1().TaskRuns(namespace).List(e.t.Context(), metav1.ListOptions{Limit: 1})
		return err
	})
	return &as
}
