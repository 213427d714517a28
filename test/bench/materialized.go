// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// materialized is what one ClusterVerificationPolicy costs that is written into each namespace.
type materialized struct {
	// Bare is how many VerificationPolicies per second a client creates that does nothing else.
	// It has the account of the controller, for which the API server checks more than for an
	// administrator, and as many workers. The controller does not run meanwhile.
	Bare float64 `json:"barePerSecond"`
	// Written is how many the controller creates, and Writes how often it wrote each.
	Written float64 `json:"writtenPerSecond"`
	Writes  float64 `json:"writesPerNamespace"`
	// Covered is from the creation of a namespace until it has the VerificationPolicy.
	Covered latency `json:"newNamespace"`
	// Repaired is from a change by somebody else until the VerificationPolicy is as before.
	Repaired latency `json:"repair"`
}

const (
	materializedWorkers = 16 // as in pkg/controllers/materializing
	materializedSamples = 100
	materializedPolicy  = "everywhere"
)

// written counts the writes of VerificationPolicies that stand for the policy.
type written struct {
	mu    sync.Mutex
	count map[string]int // by namespace
	all   int
}

func (w *written) follow(from watch.Interface) {
	for event := range from.ResultChan() {
		found, ok := event.Object.(*tekton.VerificationPolicy)
		if !ok || found.Name != policy.MaterializedName(materializedPolicy) || event.Type == watch.Deleted {
			continue
		}
		w.mu.Lock()
		w.count[found.Namespace]++
		w.all++
		w.mu.Unlock()
	}
}

func (w *written) namespaces() (namespaces, writes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.count), w.all
}

// measureMaterialized measures with all other policies there.
func (p *policyBench) measureMaterialized(ctx context.Context, controller *harness.Controller, namespaces []string) (*materialized, error) {
	if _, err := p.cluster.RunKubectl(ctx, "", "apply", "-f", filepath.Join(harness.Root(), "config", "materialize")); err != nil {
		return nil, err
	}
	result := &materialized{}
	if err := controller.Kill(ctx); err != nil {
		return nil, err
	}
	var err error
	if result.Bare, err = p.createBare(ctx, namespaces); err != nil {
		return nil, err
	}
	if err := controller.Start(ctx); err != nil {
		return nil, err
	}
	watcher, err := p.cluster.Tekton.TektonV1alpha1().VerificationPolicies("").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, watcher.Stop)
	seen := &written{count: map[string]int{}}
	go seen.follow(watcher)
	if result.Written, result.Writes, err = p.writeEverywhere(ctx, seen, len(namespaces)); err != nil {
		return nil, err
	}
	if result.Covered, err = p.coverNew(ctx); err != nil {
		return nil, err
	}
	result.Repaired, err = p.repair(ctx, namespaces[:min(len(namespaces), materializedSamples)])
	return result, err
}

// createBare creates a VerificationPolicy in each namespace, and deletes them again.
func (p *policyBench) createBare(ctx context.Context, namespaces []string) (perSecond float64, err error) {
	all := func(do func(ctx context.Context, namespace string) error) error {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(materializedWorkers)
		for _, namespace := range namespaces {
			group.Go(func() error { return do(ctx, namespace) })
		}
		return group.Wait()
	}
	object, err := p.materializedObject()
	if err != nil {
		return 0, err
	}
	config := rest.CopyConfig(p.cluster.Admin)
	config.Impersonate.UserName = "system:serviceaccount:" + harness.SystemNamespace + ":" + harness.ServiceAccount
	account, err := versioned.NewForConfig(config)
	if err != nil {
		return 0, err
	}
	client := account.TektonV1alpha1()
	began := time.Now()
	if err := all(func(ctx context.Context, namespace string) error {
		_, err := client.VerificationPolicies(namespace).Create(ctx, object.DeepCopy(), metav1.CreateOptions{})
		return err
	}); err != nil {
		return 0, err
	}
	perSecond = float64(len(namespaces)) / time.Since(began).Seconds()
	return perSecond, all(func(ctx context.Context, namespace string) error {
		return client.VerificationPolicies(namespace).Delete(ctx, object.Name, metav1.DeleteOptions{})
	})
}

// materializedObject returns what the controller writes, under another name.
func (p *policyBench) materializedObject() (*tekton.VerificationPolicy, error) {
	object, err := p.everywhere()
	if err != nil {
		return nil, err
	}
	bare := &tekton.VerificationPolicy{ObjectMeta: metav1.ObjectMeta{
		Name: "bare", Labels: map[string]string{v1alpha1.MaterializedLabel: "bare"}, Annotations: map[string]string{v1alpha1.MaterializedAnnotation: "bare/uid/1"},
	}}
	bare.Spec.Mode = tekton.ModeWarn
	bare.Spec.Resources = []tekton.ResourcePattern{{Pattern: `^(?:https://materialized\.example/(?s:.*))$`}}
	bare.Spec.Authorities = []tekton.Authority{{Name: "fixed", Key: &tekton.KeyRef{Data: object.Spec.Authorities[0].Data, HashAlgorithm: "sha256"}}}
	return bare, nil
}

func (p *policyBench) everywhere() (*v1alpha1.ClusterVerificationPolicy, error) {
	object, err := p.policy(0)
	if err != nil {
		return nil, err
	}
	object.Name = materializedPolicy
	object.Spec.Mode, object.Spec.Materialize = v1alpha1.PolicyWarn, true
	object.Spec.NamespaceSelector = metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "group", Operator: metav1.LabelSelectorOpExists}}}
	object.Spec.Resources = []v1alpha1.PolicyResource{{Source: "https://materialized.example/*"}}
	object.Spec.Authorities = object.Spec.Authorities[:1]
	return object, nil
}

func (p *policyBench) writeEverywhere(ctx context.Context, seen *written, namespaces int) (perSecond, writesEach float64, err error) {
	object, err := p.everywhere()
	if err != nil {
		return 0, 0, err
	}
	p.log.Printf("writing one policy into %d namespaces", namespaces)
	if _, err := p.client.Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return 0, 0, err
	}
	var first time.Time
	if err := harness.Eventually(ctx, policiesTimeout, func(context.Context) error {
		found, _ := seen.namespaces()
		if found > 0 && first.IsZero() {
			first = time.Now()
		}
		if found < namespaces {
			return fmt.Errorf("%d of %d namespaces have the VerificationPolicy", found, namespaces)
		}
		return nil
	}); err != nil {
		return 0, 0, err
	}
	took := time.Since(first)
	// The status is written after the last namespace: by then, nothing is left to write.
	if err := harness.Eventually(ctx, policiesTimeout, func(ctx context.Context) error {
		found, err := p.client.Get(ctx, object.Name, metav1.GetOptions{})
		if err == nil && (found.Status.Namespaces.Synced == nil || int(*found.Status.Namespaces.Synced) != namespaces) {
			err = fmt.Errorf("%w: %+v", errNotInForce, found.Status.Namespaces)
		}
		return err
	}); err != nil {
		return 0, 0, err
	}
	_, writes := seen.namespaces()
	return float64(namespaces) / took.Seconds(), float64(writes) / float64(namespaces), nil
}

// coverNew creates one namespace after the other.
func (p *policyBench) coverNew(ctx context.Context) (latency, error) {
	waits := make([]time.Duration, 0, materializedSamples)
	for range materializedSamples {
		began := time.Now()
		created, err := p.cluster.Kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			GenerateName: "covered-", Labels: map[string]string{"group": "new"},
		}}, metav1.CreateOptions{})
		if err != nil {
			return latency{}, err
		}
		if err := p.waitMaterialized(ctx, created.Name); err != nil {
			return latency{}, err
		}
		waits = append(waits, time.Since(began))
	}
	return summarize(1, waits), nil
}

// repair changes the VerificationPolicy of one namespace after the other, without the guard.
func (p *policyBench) repair(ctx context.Context, namespaces []string) (latency, error) {
	bindings := p.cluster.Kube.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	if err := bindings.Delete(ctx, v1alpha1.MaterializedGuard, metav1.DeleteOptions{}); err != nil {
		return latency{}, err
	}
	client, name := p.cluster.Tekton.TektonV1alpha1(), policy.MaterializedName(materializedPolicy)
	change := func(namespace string) error {
		_, err := client.VerificationPolicies(namespace).Patch(ctx, name, types.MergePatchType, []byte(`{"spec":{"mode":"enforce"}}`), metav1.PatchOptions{})
		return err
	}
	// The API server uses the guard for a moment after its deletion.
	if err := harness.Eventually(ctx, time.Minute, func(context.Context) error { return change(namespaces[0]) }); err != nil {
		return latency{}, err
	}
	waits := make([]time.Duration, 0, len(namespaces))
	for _, namespace := range namespaces {
		if err := p.waitMaterialized(ctx, namespace); err != nil { // also the change above
			return latency{}, err
		}
		began := time.Now()
		if err := change(namespace); err != nil {
			return latency{}, err
		}
		if err := p.waitMaterialized(ctx, namespace); err != nil {
			return latency{}, err
		}
		waits = append(waits, time.Since(began))
	}
	return summarize(1, waits), nil
}

// waitMaterialized waits until a namespace has the VerificationPolicy as it should be.
func (p *policyBench) waitMaterialized(ctx context.Context, namespace string) error {
	client, name := p.cluster.Tekton.TektonV1alpha1().VerificationPolicies(namespace), policy.MaterializedName(materializedPolicy)
	return harness.Eventually(ctx, time.Minute, func(ctx context.Context) error {
		found, err := client.Get(ctx, name, metav1.GetOptions{})
		if err == nil && found.Spec.Mode != tekton.ModeWarn {
			err = fmt.Errorf("mode %s, want warn", found.Spec.Mode)
		}
		return err
	})
}

func (t *tables) materialized(m *materialized) {
	if m == nil {
		return
	}
	t.line("\nOne more policy, written into each namespace as a VerificationPolicy")
	t.row("bare client, per second", "controller, per second", "ratio", "writes per namespace", "new namespace covered, p50", "p99", "repaired, p50", "p99")
	t.row(fmt.Sprintf("%.0f", m.Bare), fmt.Sprintf("%.0f", m.Written), fmt.Sprintf("%.2f", m.Written/m.Bare), fmt.Sprintf("%.2f", m.Writes),
		m.Covered.P50, m.Covered.P99, m.Repaired.P50, m.Repaired.P99)
}
