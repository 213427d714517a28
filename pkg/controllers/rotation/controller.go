// SPDX-License-Identifier: Apache-2.0

// Package rotation has the controller that makes keys of KeyRings active and retires
// them, one step after the other, each after it has seen what the step needs
// (docs/design/0029).
package rotation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	policylisters "github.com/tektoncd/pipeline/pkg/client/listers/pipeline/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/reconciler"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/controllers/rings"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

const (
	// timeout bounds one look at a ring, with two canaries and all reads.
	timeout = 5 * time.Minute
	// interval is the time between two looks at a ring that nothing has changed.
	interval = 10 * time.Second

	firstRetry, maxRetryDelay = time.Second, 30 * time.Second
)

// Emitter emits facts.
type Emitter interface {
	Emit(ctx context.Context, f observe.Fact)
}

// Resources are the resources of the cluster, as the informers have them.
type Resources interface {
	// Visit calls its argument with each resource.
	Visit(visit func(*resource.Summary))
}

// Inputs are what the controller works with.
type Inputs struct {
	// Namespace is that of the controller, which has the KeyRings.
	Namespace string
	Rings     *rings.Rings
	Keys      *rings.Keys
	Client    rings.Client
	Kube      kubernetes.Interface
	Tekton    versioned.Interface
	// RingOf returns the name of the ring that serves a namespace; empty if none does.
	RingOf       func(namespace string) string
	PolicyLister policylisters.VerificationPolicyLister
	// ClusterPolicies are those that a rotation has to wait for.
	ClusterPolicies ClusterPolicies
	// Policies read the keys of VerificationPolicies.
	Policies  *policy.Keys
	Resources Resources
	// Bundles are those of the resources in the registry.
	Bundles Bundles
	// Legacy returns the keys that sign without a KeyRing.
	Legacy func() *keys.Ring
	// RunSigners returns the types of the signers of runs, such as "x509".
	RunSigners func() []string
	// Attests reports whether this controller attests the runs of a namespace.
	Attests func(namespace string) bool
	// LatestVersion returns the latest version of a key in a KMS.
	LatestVersion func(ctx context.Context, ref string) (string, error)
	Dialect       func() tekton.Dialect
	Emitter       Emitter
	Clock         clock.PassiveClock
	// Ready reports whether the resources were read.
	Ready func() bool
	// Changes calls its argument with each namespace whose policies or labels have changed.
	Changes func(func(namespace string))
}

// Controller rotates keys. Its keys are those of KeyRings.
type Controller struct {
	reconciler.LeaderAwareFuncs
	Inputs

	canary canary
	// There is one worker, so these need no lock.
	counters map[string]*counter // by name of the ring
	moved    map[string]*moved   // by name of the ring
	open     map[string]*listedRuns
	probes   map[string]string  // signatures, by ID of the key
	versions map[string]version // by reference in a KMS
}

var (
	_ controller.Reconciler  = (*Controller)(nil)
	_ reconciler.LeaderAware = (*Controller)(nil)
)

// NewController returns the controller.
func NewController(ctx context.Context, in Inputs) *controller.Impl {
	c := &Controller{
		Inputs: in, canary: canary{in.Tekton, in.Dialect},
		counters: map[string]*counter{}, moved: map[string]*moved{}, open: map[string]*listedRuns{}, probes: map[string]string{}, versions: map[string]version{},
	}
	impl := controller.NewContext(ctx, c, controller.ControllerOptions{
		WorkQueueName: v1alpha1.Group + ".rotation",
		Logger:        logging.FromContext(ctx).Named("rotation"),
		RateLimiter:   workqueue.NewTypedItemExponentialFailureRateLimiter[any](firstRetry, maxRetryDelay),
		Concurrency:   1,
	})
	enqueue := func() {
		// Ring "default" also if it does not exist: the last ring may have been deleted.
		for _, name := range append(in.Rings.Names(), v1alpha1.DefaultKeyRing) {
			impl.EnqueueKey(types.NamespacedName{Namespace: in.Namespace, Name: name})
		}
	}
	c.PromoteFunc = func(reconciler.Bucket, func(reconciler.Bucket, types.NamespacedName)) error {
		enqueue()
		return nil
	}
	in.Rings.OnWrite(enqueue)
	in.Changes(func(string) { enqueue() })
	return impl
}

// Reconcile takes the next step of the KeyRing with this key.
func (c *Controller) Reconcile(ctx context.Context, key string) error {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return controller.NewPermanentError(err)
	}
	if !c.IsLeaderFor(name.AsNamespacedName()) {
		return controller.NewSkipKey(key)
	}
	if !c.Ready() {
		return controller.NewRequeueAfter(firstRetry)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ring, err := c.Client.Get(ctx, name.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return cmp.Or(c.publishWithout(ctx), controller.NewSkipKey(key))
	}
	if err != nil {
		return err
	}
	err = observe.Guard(func() error { return c.reconcile(ctx, ring) })
	if apierrors.IsConflict(err) { // the next look sees what has changed
		return controller.NewRequeueAfter(firstRetry)
	}
	if err != nil {
		return fmt.Errorf("KeyRing %s: %w", ring.Name, err)
	}
	return controller.NewRequeueAfter(interval)
}

// blocked says what a step waits for.
type blocked struct{ why string }

func (b blocked) Error() string { return b.why }

// isWaiting reports that a step waits for something outside this controller, so that
// to try again at once makes no sense.
func isWaiting(err error) bool {
	var waiting blocked
	return errors.As(err, &waiting) || errors.Is(err, errNotSeen) || errors.Is(err, keys.ErrSigner) || errors.Is(err, keys.ErrNoKey)
}
