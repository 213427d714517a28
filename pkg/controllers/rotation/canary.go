// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	ourtekton "github.com/trusted-resources/chains-extension/pkg/tekton"
)

const (
	canaryInterval = 200 * time.Millisecond
	// canaryTimeout is longer than Tekton's controller may need to come to a new run while
	// many others begin: each attempt starts again at the end of that queue.
	canaryTimeout = 2 * time.Minute
	// cleanupTimeout bounds the deletion of what a canary created.
	cleanupTimeout = 10 * time.Second
	// leftOver is the age from which no replica uses a canary any more.
	leftOver = canaryTimeout + cleanupTimeout + 20*time.Second
)

// canary runs Tasks in v1alpha1.CanaryNamespace to find out what Tekton's controller has
// seen. The Tasks lack a parameter, so that Tekton verifies them and then ends their runs
// without a Pod.
type canary struct {
	tekton  versioned.Interface
	dialect func() ourtekton.Dialect
}

// errNotSeen means that Tekton did not verify a canary.
var errNotSeen = errors.New("the controller of Tekton did not verify the canary, so it may not have seen the present VerificationPolicies")

// seen returns nil once Tekton's controller has seen all VerificationPolicies that were
// written before the call. A watch delivers writes in their order, and the policy of the
// canary is written after them.
func (c canary) seen(ctx context.Context, key *keys.Key) error {
	verified, err := c.try(ctx, key, key)
	switch {
	case err != nil:
		return err
	case verified != corev1.ConditionTrue:
		return errNotSeen
	}
	return nil
}

// try runs a Task with a signature of one key under a policy that trusts another, and
// returns Tekton's condition TrustedResourcesVerified; empty if Tekton did not set it.
func (c canary) try(ctx context.Context, trusted, signer *keys.Key) (verified corev1.ConditionStatus, err error) {
	ctx, cancel := context.WithTimeout(ctx, canaryTimeout)
	defer cancel()
	name := "canary-" + rand.String(10) // one of its own, so that no earlier policy matches
	defer c.cleanUp(ctx, name)
	if err := c.create(ctx, name, trusted, signer); err != nil {
		return "", fmt.Errorf("creating canary %s/%s: %w", v1alpha1.CanaryNamespace, name, err)
	}
	err = wait.PollUntilContextCancel(ctx, canaryInterval, false, func(ctx context.Context) (bool, error) {
		run, err := c.tekton.TektonV1().TaskRuns(v1alpha1.CanaryNamespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		if condition := run.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified); condition != nil {
			verified = condition.Status
		}
		return run.IsDone(), nil
	})
	if err != nil {
		return "", fmt.Errorf("waiting for canary %s/%s: %w", v1alpha1.CanaryNamespace, name, err)
	}
	return verified, nil
}

func (c canary) create(ctx context.Context, name string, trusted, signer *keys.Key) error {
	public, err := trusted.PEM()
	if err != nil {
		return err
	}
	policy := &tekton.VerificationPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.CanaryNamespace, Name: name},
		Spec: tekton.VerificationPolicySpec{
			Resources:   []tekton.ResourcePattern{{Pattern: ".*/tasks?/" + name + "(@.*)?"}},
			Authorities: []tekton.Authority{{Name: "trusted", Key: &tekton.KeyRef{Data: public, HashAlgorithm: "sha256"}}},
		},
	}
	policy, err = c.tekton.TektonV1alpha1().VerificationPolicies(policy.Namespace).Create(ctx, policy, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if err := c.deleteLeftOver(ctx, policy.CreationTimestamp.Time); err != nil {
		return fmt.Errorf("deleting canaries that were left over: %w", err)
	}
	task, err := c.task(ctx, name, signer)
	if err != nil {
		return err
	}
	if _, err := c.tekton.TektonV1().Tasks(task.Namespace).Create(ctx, task, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err = c.tekton.TektonV1().TaskRuns(v1alpha1.CanaryNamespace).Create(ctx, runOf(name), metav1.CreateOptions{})
	return err
}

func (c canary) task(ctx context.Context, name string, signer *keys.Key) (*v1.Task, error) {
	task := &v1.Task{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.CanaryNamespace, Name: name},
		Spec: v1.TaskSpec{
			Params: v1.ParamSpecs{{Name: "never-set", Type: v1.ParamTypeString}},
			Steps:  []v1.Step{{Name: "none", Image: "none.invalid/none"}},
		},
	}
	checksum, err := resource.Checksum(ctx, task, c.dialect())
	if err != nil {
		return nil, err
	}
	signature, err := signer.Sign(ctx, checksum)
	if err != nil {
		return nil, err
	}
	task.Annotations = map[string]string{trustedresources.SignatureAnnotation: resource.EncodeSignature(signature)}
	return task, nil
}

func runOf(name string) *v1.TaskRun {
	param := func(name, value string) v1.Param { return v1.Param{Name: name, Value: *v1.NewStructuredValues(value)} }
	return &v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.CanaryNamespace, Name: name},
		Spec: v1.TaskRunSpec{TaskRef: &v1.TaskRef{ResolverRef: v1.ResolverRef{
			Resolver: "cluster",
			Params:   v1.Params{param("kind", "task"), param("name", name), param("namespace", v1alpha1.CanaryNamespace)},
		}}},
	}
}

// cleanUp deletes what a canary created.
func (c canary) cleanUp(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	_ = c.delete(ctx, name) // deleteLeftOver tries again
}

func (c canary) delete(ctx context.Context, name string) error {
	var errs []error
	for _, objects := range []interface {
		Delete(ctx context.Context, name string, o metav1.DeleteOptions) error
	}{
		c.tekton.TektonV1().TaskRuns(v1alpha1.CanaryNamespace), c.tekton.TektonV1().Tasks(v1alpha1.CanaryNamespace),
		c.tekton.TektonV1alpha1().VerificationPolicies(v1alpha1.CanaryNamespace),
	} {
		if err := objects.Delete(ctx, name, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// deleteLeftOver deletes the canaries of a process that ended before it could. Their
// policies match no later canary, and do not count in a rotation. Another replica may work
// with a younger one. now is the time of the API server, which made the other times, too.
func (c canary) deleteLeftOver(ctx context.Context, now time.Time) error {
	policies, err := c.tekton.TektonV1alpha1().VerificationPolicies(v1alpha1.CanaryNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, policy := range policies.Items {
		if now.Sub(policy.CreationTimestamp.Time) > leftOver {
			if err := c.delete(ctx, policy.Name); err != nil {
				return err
			}
		}
	}
	return nil
}
