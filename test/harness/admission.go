// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// admissionTimeout is how long the API server may take to use a new policy.
const admissionTimeout = 30 * time.Second

// InstallAdmission applies config/admission and waits until the API server uses the
// policies. They add a resolver to local references, so that Tekton verifies those, too.
func (c *Cluster) InstallAdmission(ctx context.Context) error {
	if _, err := c.RunKubectl(ctx, "", "apply", "-f", admissionManifests()); err != nil {
		return err
	}
	return c.waitAdmission(ctx, "cluster")
}

// RemoveAdmission deletes the policies of config/admission and waits until the API
// server does not use them any more.
func (c *Cluster) RemoveAdmission(ctx context.Context) error {
	if _, err := c.RunKubectl(ctx, "", "delete", "--ignore-not-found", "-f", admissionManifests()); err != nil {
		return err
	}
	return c.waitAdmission(ctx, "")
}

func admissionManifests() string { return filepath.Join(Root(), "config", "admission") }

// waitAdmission waits until local references in an opted-in namespace get the resolver,
// or no resolver if it is empty. The runs are dry runs.
func (c *Cluster) waitAdmission(ctx context.Context, resolver v1.ResolverName) (err error) {
	namespaces := c.Kube.CoreV1().Namespaces()
	ns, err := namespaces.Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "admission-", Labels: map[string]string{v1alpha1.SignLabel: "true"}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, namespaces.Delete(ctx, ns.Name, metav1.DeleteOptions{})) }()
	var got string
	err = wait.PollUntilContextTimeout(ctx, PollInterval, admissionTimeout, true, func(ctx context.Context) (bool, error) {
		task, pipeline, err := c.admitted(ctx, ns.Name)
		got = fmt.Sprintf("a taskRef gets resolver %q, a pipelineRef %q, error %v", task, pipeline, err)
		return err == nil && task == resolver && pipeline == resolver, nil
	})
	if err != nil {
		return fmt.Errorf("waiting until local references get resolver %q: %w; at last %s", resolver, err, got)
	}
	return nil
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

// RunLocalTask runs a Task by its name, without a resolver, and waits until the run has
// ended.
func (c *Cluster) RunLocalTask(ctx context.Context, namespace, task string, timeout time.Duration) (*v1.TaskRun, error) {
	return c.Run(ctx, &v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: task + "-"},
		Spec:       v1.TaskRunSpec{TaskRef: &v1.TaskRef{Name: task}},
	}, timeout)
}
