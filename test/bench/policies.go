// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/client"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// policies is what ClusterVerificationPolicies cost.
type policies struct {
	Namespaces int `json:"namespaces"`
	Policies   int `json:"policies"`
	// InForce is from the creation of the last policy until the status of each policy says
	// that the API server knows it.
	InForce seconds `json:"inForceSeconds"`
	// Change is from a change of one policy until the same, with all policies there.
	Change latency `json:"change"`
	// ConfigMapWrites and StatusWrites are those from the first policy until all are in force.
	ConfigMapWrites int64 `json:"configMapWrites"`
	StatusWrites    int64 `json:"statusWrites"`
	// Without and With are the memory of an idle controller without policies, and with all.
	Without footprint `json:"memoryWithout"`
	With    footprint `json:"memoryWith"`

	Materialized *materialized `json:"materialized"`
}

const (
	policiesTimeout = 20 * time.Minute
	policyChanges   = 20
)

// policyBench is a number of policies and what was seen of them.
type policyBench struct {
	*bench

	client            *client.ClusterPolicies
	namespaces        []string
	configMap, status atomic.Int64
}

// measurePolicies creates namespaces and policies. Each policy selects a tenth of the
// namespaces.
func (b *bench) measurePolicies(ctx context.Context, o options) (*policies, error) {
	ctx, cancel := context.WithTimeout(ctx, policiesTimeout)
	defer cancel()
	if err := b.cluster.InstallAdmission(ctx); err != nil {
		return nil, err
	}
	p := &policyBench{bench: b}
	var err error
	if p.client, err = client.NewClusterPolicies(b.cluster.Admin); err != nil {
		return nil, err
	}
	if err := p.createNamespaces(ctx, o.policyNamespaces); err != nil {
		return nil, err
	}
	result := &policies{Namespaces: o.policyNamespaces, Policies: o.policies}
	return result, b.withController(ctx, o.concurrency, func(controller *harness.Controller) error {
		return p.measure(ctx, controller, result)
	})
}

func (p *policyBench) createNamespaces(ctx context.Context, count int) error {
	p.log.Printf("creating %d namespaces", count)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(creators)
	p.namespaces = make([]string, count)
	for i := range count {
		group.Go(func() error {
			created, err := p.cluster.Kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
				GenerateName: "policies-", Labels: map[string]string{"group": fmt.Sprint(i % 10)},
			}}, metav1.CreateOptions{})
			if err == nil {
				p.namespaces[i] = created.Name
			}
			return err
		})
	}
	return group.Wait()
}

func (p *policyBench) measure(ctx context.Context, controller *harness.Controller, result *policies) error {
	part, err := p.cluster.Part(ctx, controller.Name)
	if err != nil {
		return err
	}
	if _, err := waitIdle(ctx, part.PID); err != nil {
		return err
	}
	if result.Without, err = readFootprint(part.PID); err != nil {
		return err
	}
	if err := p.count(ctx); err != nil {
		return err
	}
	p.log.Printf("creating %d policies", result.Policies)
	for i := range result.Policies {
		policy, err := p.policy(i)
		if err != nil {
			return err
		}
		if _, err := p.client.Create(ctx, policy, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := p.waitAll(ctx); err != nil {
		return err
	}
	result.InForce, result.ConfigMapWrites, result.StatusWrites = inSeconds(time.Since(began)), p.configMap.Load(), p.status.Load()
	if result.Change, err = p.change(ctx); err != nil {
		return err
	}
	if _, err := waitIdle(ctx, part.PID); err != nil {
		return err
	}
	if result.With, err = readFootprint(part.PID); err != nil {
		return err
	}
	result.Materialized, err = p.measureMaterialized(ctx, controller, p.namespaces)
	return err
}

func (p *policyBench) policy(i int) (*v1alpha1.ClusterVerificationPolicy, error) {
	pem, err := cryptoutils.MarshalPublicKeyToPEM(p.publicKey)
	return &v1alpha1.ClusterVerificationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("policy-%d", i)},
		Spec: v1alpha1.ClusterVerificationPolicySpec{
			Tier: v1alpha1.TierOverride, Priority: int32(i % 1000), Mode: v1alpha1.PolicyEnforce,
			NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"group": fmt.Sprint(i % 10)}},
			Resources:         []v1alpha1.PolicyResource{{Source: fmt.Sprintf("https://git.example/%d/*", i)}},
			Authorities:       []v1alpha1.PolicyAuthority{{Name: "fixed", Data: string(pem)}, {Name: "ours", KeyRing: v1alpha1.KeyRingActive}},
		},
	}, err
}

// count counts the writes of the controller, as watches see them.
func (p *policyBench) count(ctx context.Context) error {
	configMaps, err := p.cluster.Kube.CoreV1().ConfigMaps(v1alpha1.PoliciesNamespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	statuses, err := p.client.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	follow := func(from watch.Interface, counter *atomic.Int64, counts func(watch.Event) bool) {
		for event := range from.ResultChan() {
			if counts(event) {
				counter.Add(1)
			}
		}
	}
	go follow(configMaps, &p.configMap, func(e watch.Event) bool {
		found, ok := e.Object.(*corev1.ConfigMap)
		return ok && found.Name == v1alpha1.ClusterPoliciesConfigMap
	})
	go follow(statuses, &p.status, func(e watch.Event) bool { return e.Type == watch.Modified })
	context.AfterFunc(ctx, func() { configMaps.Stop(); statuses.Stop() })
	return nil
}

var errNotInForce = errors.New("not in force")

func (p *policyBench) waitAll(ctx context.Context) error {
	return harness.Eventually(ctx, policiesTimeout, func(ctx context.Context) error {
		list, err := p.client.List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range list.Items {
			if !inForce(&list.Items[i]) {
				return fmt.Errorf("%w: %s", errNotInForce, list.Items[i].Name)
			}
		}
		return nil
	})
}

func inForce(p *v1alpha1.ClusterVerificationPolicy) bool {
	c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.PolicyEnforced)
	return c != nil && c.Status == metav1.ConditionTrue && c.ObservedGeneration == p.Generation
}

// change changes one policy after the other.
func (p *policyBench) change(ctx context.Context) (latency, error) {
	waits := make([]time.Duration, 0, policyChanges)
	for i := range policyChanges {
		began := time.Now()
		patch := fmt.Appendf(nil, `{"spec":{"resources":[{"source":"https://changed.example/%d/*"}]}}`, i)
		changed, err := p.client.Patch(ctx, "policy-0", types.MergePatchType, patch, metav1.PatchOptions{})
		if err != nil {
			return latency{}, err
		}
		if err := harness.Eventually(ctx, time.Minute, func(ctx context.Context) error {
			found, err := p.client.Get(ctx, changed.Name, metav1.GetOptions{})
			if err == nil && !inForce(found) {
				err = errNotInForce
			}
			return err
		}); err != nil {
			return latency{}, err
		}
		waits = append(waits, time.Since(began))
	}
	return summarize(1, waits), nil
}

func (t *tables) policies(p *policies) {
	t.line("\n%d ClusterVerificationPolicies, each for a tenth of %d namespaces", p.Policies, p.Namespaces)
	t.row("last policy created to all in force", "one change to in force, p50", "p99", "writes of the ConfigMap", "writes of statuses")
	t.row(p.InForce, p.Change.P50, p.Change.P99, p.ConfigMapWrites, p.StatusWrites)
	t.line("\nMemory of an idle controller, resident / anonymous part of it / peak since the process started")
	t.row("without policies", "with all policies")
	t.row(p.Without, p.With)
	t.materialized(p.Materialized)
}
