// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// admissionTimeout is how long the API server may take to use a new policy.
const admissionTimeout = 30 * time.Second

// InstallAdmission applies config/admission and waits until the API server uses the
// policies. They add a resolver to local references, so that Tekton verifies those, too,
// and they hold and guard the Pods of TaskRuns in enforced namespaces.
func (c *Cluster) InstallAdmission(ctx context.Context) error {
	if _, err := c.RunKubectl(ctx, "", "apply", "-f", admissionManifests()); err != nil {
		return err
	}
	return c.waitAdmission(ctx, func(a admission) bool { return a == admission{"cluster", "cluster", true, true} })
}

// RemoveAdmission deletes the policies of config/admission and waits until the API
// server does not use them any more.
func (c *Cluster) RemoveAdmission(ctx context.Context) error {
	if _, err := c.RunKubectl(ctx, "", "delete", "--ignore-not-found", "-f", admissionManifests()); err != nil {
		return err
	}
	return c.waitAdmission(ctx, func(a admission) bool { return a == admission{} })
}

func admissionManifests() string { return filepath.Join(Root(), "config", "admission") }

// admission is what becomes of dry runs in a namespace with the labels for signing and
// enforcement.
type admission struct {
	taskResolver, pipelineResolver v1.ResolverName // of local references
	held, guarded                  bool            // of Pods of TaskRuns
}

// waitAdmission waits until dry runs have the wanted outcome.
func (c *Cluster) waitAdmission(ctx context.Context, wanted func(admission) bool) (err error) {
	namespaces := c.Kube.CoreV1().Namespaces()
	ns, err := namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "admission-", Labels: map[string]string{v1alpha1.SignLabel: "true", v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce},
	}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, namespaces.Delete(ctx, ns.Name, metav1.DeleteOptions{})) }()
	return Eventually(ctx, admissionTimeout, func(ctx context.Context) error {
		var got admission
		var err error
		if got.taskResolver, got.pipelineResolver, err = c.admitted(ctx, ns.Name); err != nil {
			return err
		}
		got.held, got.guarded = c.podAdmission(ctx, ns.Name)
		if !wanted(got) {
			return fmt.Errorf("a taskRef gets resolver %q, a pipelineRef %q; Pods are held: %t, guarded: %t",
				got.taskResolver, got.pipelineResolver, got.held, got.guarded)
		}
		return nil
	})
}

// admitted returns the resolvers that the API server gives to local references in a dry
// run.
func (c *Cluster) admitted(ctx context.Context, namespace string) (task, pipeline v1.ResolverName, err error) {
	dryRun := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	meta := metav1.ObjectMeta{Namespace: namespace, GenerateName: "dry-run-"}
	taskRun, err := c.Tekton.TektonV1().TaskRuns(namespace).Create(ctx, &v1.TaskRun{
		ObjectMeta: meta, Spec: v1.TaskRunSpec{TaskRef: &v1.TaskRef{Name: "any"}},
	}, dryRun)
	if err != nil {
		return "", "", err
	}
	pipelineRun, err := c.Tekton.TektonV1().PipelineRuns(namespace).Create(ctx, &v1.PipelineRun{
		ObjectMeta: meta, Spec: v1.PipelineRunSpec{PipelineRef: &v1.PipelineRef{Name: "any"}},
	}, dryRun)
	if err != nil {
		return "", "", err
	}
	return taskRun.Spec.TaskRef.Resolver, pipelineRun.Spec.PipelineRef.Resolver, nil
}

// podAdmission reports whether the API server holds a Pod that Tekton creates for a
// TaskRun, and whether it refuses one that somebody else creates.
func (c *Cluster) podAdmission(ctx context.Context, namespace string) (held, guarded bool) {
	pod := PodOfTaskRun("any-pod")
	dryRun := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	_, err := c.Kube.CoreV1().Pods(namespace).Create(ctx, pod, dryRun)
	guarded = apierrors.IsForbidden(err) && strings.Contains(err.Error(), "only Tekton creates")
	tekton, err := c.asTekton()
	if err != nil {
		return false, guarded
	}
	created, err := tekton.CoreV1().Pods(namespace).Create(ctx, pod, dryRun)
	return err == nil && IsHeld(created), guarded
}

// asTekton returns a client with the identity of Tekton's controller.
func (c *Cluster) asTekton() (kubernetes.Interface, error) {
	config := rest.CopyConfig(c.Admin)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:tekton-pipelines:tekton-pipelines-controller", Groups: []string{"system:authenticated"},
	}
	return kubernetes.NewForConfig(config)
}

// RunLocalTask runs a Task by its name, without a resolver, and waits until the run has
// ended.
func (c *Cluster) RunLocalTask(ctx context.Context, namespace, task string, timeout time.Duration) (*v1.TaskRun, error) {
	return c.Run(ctx, &v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: task + "-"},
		Spec:       v1.TaskRunSpec{TaskRef: &v1.TaskRef{Name: task}},
	}, timeout)
}
