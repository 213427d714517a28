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

// Contest has the ways to verify one scenario. All of them take the checksum of
// the Task, and fail unless it passes.
type Contest struct {
	task     *v1.Task
	policies []*v1alpha1.VerificationPolicy
	client   kubernetes.Interface
	verifier *policy.Verifier
}

// NewContest makes the keys and signs. kmsRef is for scenarios with a KMS.
func NewContest(ctx context.Context, s Scenario, kmsRef string) (*Contest, error) {
	signer, err := newSigner(ctx, s, kmsRef)
	if err != nil {
		return nil, err
	}
	c := &Contest{task: newTask(s.Steps)}
	if err := signer.sign(ctx, c.task); err != nil {
		return nil, err
	}
	policies, secrets, err := signer.policies(s)
	if err != nil {
		return nil, err
	}
	c.policies, c.client = policies, fake.NewClientset(secrets...)
	c.verifier = policy.New(c, c, clock.RealClock{})
	return c, nil
}

// Ways are the ways to verify by name, in the order to show them in.
func (c *Contest) Ways() []Way {
	return []Way{{"checksum", c.checksum}, {"upstream", c.upstream}, {"cold", c.cold}, {"warm", c.warm}}
}

// Way is one way to verify.
type Way struct {
	Name string
	Do   func(context.Context) error
}

// Policies implements policy.Policies.
func (c *Contest) Policies(string) ([]*v1alpha1.VerificationPolicy, error) { return c.policies, nil }

// Secret implements policy.Secrets with the client that upstream has, too.
func (c *Contest) Secret(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	secret, err := c.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return secret.Data, nil
}

// checksum only computes it.
func (c *Contest) checksum(context.Context) error {
	_, err := c.task.Checksum()
	return err
}

func (c *Contest) upstream(ctx context.Context) error {
	result := trustedresources.VerifyResource(ctx, c.task, c.client, &v1.RefSource{URI: source}, c.policies)
	if result.VerificationResultType != trustedresources.VerificationPass {
		return fmt.Errorf("upstream: result %d: %w", result.VerificationResultType, result.Err)
	}
	return nil
}

// cold has read and remembers nothing.
func (c *Contest) cold(ctx context.Context) error {
	s, err := c.subject()
	if err != nil {
		return err
	}
	return passed(policy.NewSet(ctx, c.policies, policy.NewKeys(c, clock.RealClock{})).Verify(ctx, s))
}

// warm remembers all but the checksum.
func (c *Contest) warm(ctx context.Context) error {
	s, err := c.subject()
	if err != nil {
		return err
	}
	verdict, err := c.verifier.Verify(ctx, namespace, s)
	if err != nil {
		return err
	}
	return passed(verdict)
}

func (c *Contest) subject() (policy.Input, error) {
	checksum, err := c.task.Checksum()
	return policy.Input{
		Checksum: checksum, Signature: c.task.Annotations[trustedresources.SignatureAnnotation], Source: source, NoMatch: policy.Skip,
	}, err
}

func passed(v policy.Verdict) error {
	if v.Result != policy.Passed {
		return fmt.Errorf("got %+v", v)
	}
	return nil
}
