// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

const (
	bombSize       = 5000 // references to a parameter in the value of the parameter
	changes        = 20   // of a StepAction while Tekton reads it
	policiesOpen   = 20   // policies in the namespace whose signatures are unknown
	garbageTasks   = 8    // Tasks with a garbage signature at a time, in the namespace whose KMS hangs
	unsignedSteps  = 5    // unsigned StepActions behind a run
	keptRuns       = 5    // runs of each action that exist at the same time
	garbage        = "Z2FyYmFnZQ=="
	burstLabel     = "soak/burst"
	patchedTask    = "resigned"
	localAction    = "local"
	unsignedTask   = "unsigned"
	resolvedAction = "resolved"
)

// actions are what a hostile tenant can do to exhaust or to blind the controller.
func (h *hostile) actions() []action {
	all := []action{
		{actionBomb, 20 * time.Second, h.bomb},
		{actionKMS, 20 * time.Second, h.garbageWithKMS},
		{actionRegistry, 10 * time.Second, h.runUnsigned},
		{actionBurst, h.options.burstEvery, h.burst},
		{actionSignature, time.Second, h.unknownSignature},
	}
	return slices.DeleteFunc(all, func(a action) bool { return !slices.Contains(h.options.actions, a.name) })
}

// Names of the actions of hostile tenants.
const (
	actionBomb      = "bomb"
	actionKMS       = "kms"
	actionRegistry  = "registry"
	actionBurst     = "burst"
	actionSignature = "signature"
)

var allActions = []string{actionBomb, actionKMS, actionRegistry, actionBurst, actionSignature}

// prepare creates what the actions refer to.
func (h *hostile) prepare(ctx context.Context) error {
	create := metav1.CreateOptions{}
	for _, ns := range []string{h.open, h.unsigned} {
		for _, name := range []string{localAction, resolvedAction} {
			if err := h.createStepAction(ctx, ns, name); err != nil {
				return err
			}
		}
	}
	unsigned := &v1.Task{ObjectMeta: metav1.ObjectMeta{Name: unsignedTask}}
	for i := range unsignedSteps {
		name := fmt.Sprintf("unsigned-%d", i)
		if err := h.createStepAction(ctx, h.unsigned, name); err != nil {
			return err
		}
		ref := &v1.Ref{ResolverRef: harness.ClusterRef(resource.StepAction, h.unsigned, name)}
		unsigned.Spec.Steps = append(unsigned.Spec.Steps, v1.Step{Name: name, Ref: ref})
	}
	if _, err := h.tekton.TektonV1().Tasks(h.unsigned).Create(ctx, unsigned, create); err != nil {
		return err
	}
	if _, err := h.tekton.TektonV1().Tasks(h.open).Create(ctx, task(patchedTask), create); err != nil {
		return err
	}
	return h.createPolicies(ctx)
}

// createPolicies creates many policies in one namespace, and one policy whose KMS
// hangs in another.
func (h *hostile) createPolicies(ctx context.Context) error {
	signer, err := harness.NewSigner()
	if err != nil {
		return err
	}
	public, err := signer.PublicKey()
	if err != nil {
		return err
	}
	pem, err := cryptoutils.MarshalPublicKeyToPEM(public)
	if err != nil {
		return err
	}
	for i := range policiesOpen {
		if err := h.createPolicy(ctx, h.open, fmt.Sprintf("policy-%d", i), &v1alpha1.KeyRef{Data: string(pem)}); err != nil {
			return err
		}
	}
	return h.createPolicy(ctx, h.hanging, "policy", &v1alpha1.KeyRef{KMS: fmt.Sprintf("awskms://%s/alias/key-%d", h.kms.Host(), h.number)})
}

func (h *hostile) createPolicy(ctx context.Context, namespace, name string, key *v1alpha1.KeyRef) error {
	_, err := h.tekton.TektonV1alpha1().VerificationPolicies(namespace).Create(ctx, &v1alpha1.VerificationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.VerificationPolicySpec{
			Resources:   []v1alpha1.ResourcePattern{{Pattern: ".*"}},
			Authorities: []v1alpha1.Authority{{Name: "authority", Key: key}},
			Mode:        v1alpha1.ModeWarn,
		},
	}, metav1.CreateOptions{})
	return err
}

func (h *hostile) createStepAction(ctx context.Context, namespace, name string) error {
	_, err := h.tekton.TektonV1beta1().StepActions(namespace).Create(ctx, &v1beta1.StepAction{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1beta1.StepActionSpec{Image: "alpine", Script: "echo"},
	}, metav1.CreateOptions{})
	return err
}

// bomb creates a run whose parameter contains itself many times, so that each round of
// substitution multiplies its size. A StepAction changes while Tekton reads it, so that
// no replay of the substitution ends early.
func (h *hostile) bomb(ctx context.Context, n int) error {
	run := &v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("bomb-%d", n)},
		Spec: v1.TaskRunSpec{
			ServiceAccountName: "nope",
			Params:             v1.Params{{Name: "a", Value: *v1.NewStructuredValues(strings.Repeat("$(params.a)", bombSize))}},
			TaskSpec: &v1.TaskSpec{Steps: []v1.Step{
				{Name: "resolved", Ref: &v1.Ref{ResolverRef: harness.ClusterRef(resource.StepAction, h.open, resolvedAction)}},
				{Name: "local", Ref: &v1.Ref{Name: localAction}},
				{Name: "bomb", Image: "alpine", Script: "$(params.a)"},
			}},
		},
	}
	if err := h.createRun(ctx, h.open, run, "bomb", n); err != nil {
		return err
	}
	for i := range changes {
		change := fmt.Appendf(nil, `{"spec":{"script":"echo %d %d"}}`, n, i)
		_, err := h.tekton.TektonV1beta1().StepActions(h.open).Patch(ctx, localAction, types.MergePatchType, change, metav1.PatchOptions{})
		if err != nil {
			return err
		}
	}
	return nil
}

// runUnsigned creates a run with resources that nobody signed. The controller asks the
// registry for the signature of each.
func (h *hostile) runUnsigned(ctx context.Context, n int) error {
	run := &v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("unsigned-%d", n), Annotations: harness.BuildsImage()},
		Spec:       v1.TaskRunSpec{TaskRef: &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, h.unsigned, unsignedTask)}},
	}
	return h.createRun(ctx, h.unsigned, run, "unsigned", n)
}

// createRun creates a run and deletes an older one of the same name.
func (h *hostile) createRun(ctx context.Context, namespace string, run *v1.TaskRun, name string, n int) error {
	runs := h.tekton.TektonV1().TaskRuns(namespace)
	_, err := runs.Create(ctx, run, metav1.CreateOptions{})
	older := runs.Delete(ctx, fmt.Sprintf("%s-%d", name, n-keptRuns), metav1.DeleteOptions{})
	return errors.Join(err, ignoreNotFound(older))
}

// garbageWithKMS creates Tasks with a garbage signature. Only the KMS could tell whose
// signature it is.
func (h *hostile) garbageWithKMS(ctx context.Context, n int) error {
	tasks := h.tekton.TektonV1().Tasks(h.hanging)
	errs := make([]error, 0, 2*garbageTasks)
	for i := range garbageTasks {
		t := task(fmt.Sprintf("garbage-%d-%d", n, i))
		t.Annotations = map[string]string{trustedresources.SignatureAnnotation: garbage}
		_, err := tasks.Create(ctx, t, metav1.CreateOptions{})
		older := tasks.Delete(ctx, fmt.Sprintf("garbage-%d-%d", n-1, i), metav1.DeleteOptions{})
		errs = append(errs, err, ignoreNotFound(older))
	}
	return errors.Join(errs...)
}

// burst creates Tasks at a high rate, and deletes them in the end.
func (h *hostile) burst(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, max(time.Minute, 4*h.options.burstLength))
	defer cancel()
	label := fmt.Sprint(n)
	tasks := h.tekton.TektonV1().Tasks(h.open)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(h.options.burstRate)
	ticker := time.NewTicker(time.Second / time.Duration(h.options.burstRate))
	defer ticker.Stop()
	end := time.Now().Add(h.options.burstLength)
	for i := 0; time.Now().Before(end) && ctx.Err() == nil; i++ {
		<-ticker.C
		group.Go(func() error {
			t := task(fmt.Sprintf("burst-%d-%d", n, i))
			t.Labels = map[string]string{burstLabel: label}
			_, err := tasks.Create(groupCtx, t, metav1.CreateOptions{})
			return err
		})
	}
	err := group.Wait()
	return errors.Join(err, tasks.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: burstLabel + "=" + label}))
}

// unknownSignature replaces a signature by one that no key has made. The controller
// must find out whether an authority of a policy has made it.
func (h *hostile) unknownSignature(ctx context.Context, n int) error {
	signature := resource.EncodeSignature(fmt.Appendf(nil, "unknown signature %d", n))
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, trustedresources.SignatureAnnotation, signature)
	_, err := h.tekton.TektonV1().Tasks(h.open).Patch(ctx, patchedTask, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
