// SPDX-License-Identifier: Apache-2.0

package verification

import (
	"context"
	"fmt"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// Comparison verifies the Task of one scenario with several methods. Each method
// computes the checksum of the Task, and returns an error unless the Task passes.
type Comparison struct {
	task     *v1.Task
	policies []*v1alpha1.VerificationPolicy
	client   kubernetes.Interface
	verifier *policy.Verifier
}

// NewComparison makes the keys and signs the Task. kmsRef is the reference to the key
// for scenarios with a KMS.
func NewComparison(ctx context.Context, s Scenario, kmsRef string) (*Comparison, error) {
	signer, err := newSigner(ctx, s, kmsRef)
	if err != nil {
		return nil, err
	}
	c := &Comparison{task: newTask(s.Steps)}
	if err := signer.sign(ctx, c.task); err != nil {
		return nil, err
	}
	policies, secrets, err := signer.policies(s)
	if err != nil {
		return nil, err
	}
	c.policies, c.client = policies, fake.NewClientset(secrets...)
	c.verifier = policy.New(c, nil, c.sources())
	return c, nil
}

// Methods returns the methods in the order of the report.
func (c *Comparison) Methods() []Method {
	return []Method{{"checksum", c.checksum}, {"upstream", c.upstream}, {"cold", c.cold}, {"warm", c.warm}}
}

// Method is one method to verify a Task.
type Method struct {
	Name   string
	Verify func(context.Context) error
}

// Policies implements policy.Policies.
func (c *Comparison) Policies(string) ([]*v1alpha1.VerificationPolicy, error) { return c.policies, nil }

// Secret implements policy.Secrets with the client that upstream uses.
func (c *Comparison) Secret(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	secret, err := c.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return secret.Data, nil
}

func (c *Comparison) sources() policy.Sources {
	return policy.Sources{Secrets: c, Access: func() policy.Access { return unrestricted{} }, Clock: clock.RealClock{}}
}

// unrestricted allows what Tekton allows.
type unrestricted struct{}

func (unrestricted) AllowKMS(string) error            { return nil }
func (unrestricted) AllowSecret(string, string) error { return nil }

// checksum computes the checksum only.
func (c *Comparison) checksum(context.Context) error {
	_, err := c.task.Checksum()
	return err
}

func (c *Comparison) upstream(ctx context.Context) error {
	result := trustedresources.VerifyResource(ctx, c.task, c.client, &v1.RefSource{URI: source}, c.policies)
	if result.VerificationResultType != trustedresources.VerificationPass {
		return fmt.Errorf("upstream: result %d: %w", result.VerificationResultType, result.Err)
	}
	return nil
}

// cold verifies without any cache.
func (c *Comparison) cold(ctx context.Context) error {
	in, err := c.input()
	if err != nil {
		return err
	}
	return passed(policy.NewSet(c.policies, policy.NewKeys(c.sources())).Verify(ctx, in))
}

// warm takes the verdict from the cache. It still computes the checksum.
func (c *Comparison) warm(ctx context.Context) error {
	in, err := c.input()
	if err != nil {
		return err
	}
	verdict, err := c.verifier.Verify(ctx, namespace, in)
	if err != nil {
		return err
	}
	return passed(verdict)
}

func (c *Comparison) input() (policy.Input, error) {
	checksum, err := c.task.Checksum()
	return policy.Input{
		Checksum: checksum, Signature: c.task.Annotations[trustedresources.SignatureAnnotation], Source: source, NoMatch: policy.Skip,
	}, err
}

func passed(v policy.Verdict) error {
	if v.Result != policy.Passed {
		return fmt.Errorf("got verdict %+v, want %s", v, policy.Passed)
	}
	return nil
}
