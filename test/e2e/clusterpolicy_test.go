// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

const (
	tierOverride, tierDefault = v1alpha1.TierOverride, v1alpha1.TierDefault
	modeEnforce, modeWarn     = v1alpha1.PolicyEnforce, v1alpha1.PolicyWarn
	modeSkip                  = v1alpha1.PolicySkip
)

// A policy holds in a namespace without a label, and only there. The attestation names the
// policy with its rank, and the status of the policy counts.
func TestClusterPolicy_HoldsWithoutALabel(t *testing.T) {
	r := startRuled(t)
	ns, other := r.group("yes"), r.group("no")
	r.put(r.cvp("everywhere", "yes", tierOverride, 100, modeEnforce, "*", r.signer))
	ready := r.waitReady("everywhere")
	if ready.Status.Namespaces.Selected != 1 {
		t.Errorf("the policy selects %d namespaces, want 1", ready.Status.Namespaces.Selected)
	}
	for _, namespace := range []string{ns, other} {
		r.signedBy(&r.signer, newTask(namespace, "signed"))
		r.signedBy(nil, newTask(namespace, "unsigned"))
		for _, name := range []string{"signed", "unsigned"} {
			r.createTaskRun(namespace, name, &v1.TaskRef{Name: name})
		}
	}
	r.expectSuccess(r.waitDone(ns, "signed"))
	r.expectHeldBack(r.waitDone(ns, "unsigned"), "Task "+ns+"/unsigned", "Unsigned", "ClusterVerificationPolicy everywhere", "tier Override, priority 100")
	r.expectSuccess(r.waitDone(other, "signed"))
	r.expectSuccess(r.waitDone(other, "unsigned"))
	found, summary := r.verificationStatus(r.waitAttestation(ns, "signed", false, soon))
	if summary.Gate.Decision != "RELEASED" || summary.Result != "PASSED" || len(found) != 1 ||
		found[0].Policy != "everywhere" || found[0].PolicyScope != "cluster" || found[0].Tier != "Override" || found[0].Priority != 100 {
		t.Errorf("got %+v with gate %+v", found, summary.Gate)
	}
	r.eventually(soon, func() error {
		p, err := r.policies.Get(t.Context(), "everywhere", metav1.GetOptions{})
		if err == nil && (p.Status.Verdicts.Passed != 1 || p.Status.Verdicts.Failed != 1 || p.Status.Verdicts.LastFailure == nil) {
			err = fmt.Errorf("the verdicts are %+v, want one that passed and one that failed", p.Status.Verdicts)
		}
		return err
	})
	r.check(r.policies.Delete(t.Context(), "everywhere", metav1.DeleteOptions{}))
	r.createTaskRun(ns, "afterwards", &v1.TaskRef{Name: "unsigned"})
	r.expectSuccess(r.waitDone(ns, "afterwards"))
}

// example is a row of the table in docs/cluster-policies.md.
type example struct {
	name    string
	cluster func(r *ruled, group string) []*v1alpha1.ClusterVerificationPolicy
	own     func(r *ruled, namespace string)
	vendor  bool // the resources come from the namespace of the vendor
	signer  func(r *ruled) *harness.Signer
	runs    bool
	texts   []string // in the message of a run that is refused
}

func signedByK(r *ruled) *harness.Signer { return &r.signer }
func signedByA(r *ruled) *harness.Signer { return &r.otherSigner }
func notSigned(*ruled) *harness.Signer   { return nil }

// The worked examples decide about TaskRuns and PipelineRuns as the guide says.
func TestClusterPolicy_WorkedExamples(t *testing.T) {
	r := startRuled(t)
	vendor := r.namespaceLabelled(nil)
	vendors := "/apis/tekton.dev/v1/namespaces/" + vendor + "/*"
	all := func(r *ruled, group string) *v1alpha1.ClusterVerificationPolicy {
		return r.cvp("all-"+group, group, tierOverride, 100, modeEnforce, "*", r.signer)
	}
	of := func(priority int32, mode v1alpha1.PolicyMode, keys ...func(*ruled) *harness.Signer) func(*ruled, string) []*v1alpha1.ClusterVerificationPolicy {
		return func(r *ruled, group string) []*v1alpha1.ClusterVerificationPolicy {
			signers := make([]harness.Signer, 0, len(keys))
			for _, key := range keys {
				signers = append(signers, *key(r))
			}
			return []*v1alpha1.ClusterVerificationPolicy{all(r, group), r.cvp("vendor-"+group, group, tierOverride, priority, mode, vendors, signers...)}
		}
	}
	only := func(make func(*ruled, string) *v1alpha1.ClusterVerificationPolicy) func(*ruled, string) []*v1alpha1.ClusterVerificationPolicy {
		return func(r *ruled, group string) []*v1alpha1.ClusterVerificationPolicy {
			return []*v1alpha1.ClusterVerificationPolicy{make(r, group)}
		}
	}
	base := only(func(r *ruled, group string) *v1alpha1.ClusterVerificationPolicy {
		return r.cvp("base-"+group, group, tierDefault, 500, modeEnforce, "*", r.signer)
	})
	own := func(mode tekton.ModeType, pattern string) func(*ruled, string) {
		return func(r *ruled, namespace string) { r.createPolicy(namespace, "own", pattern, mode, r.otherSigner) }
	}
	acme := strings.ReplaceAll(strings.TrimSuffix(vendors, "*"), ".", `\.`) + ".*"
	examples := []example{
		{name: "1", cluster: only(all), signer: notSigned, texts: []string{"Unsigned", "all-1"}},
		{name: "2", cluster: only(all), signer: signedByK, runs: true},
		{name: "4", cluster: only(all), own: own(tekton.ModeWarn, ".*"), signer: notSigned, texts: []string{"Unsigned", "all-4"}},
		{name: "5", cluster: of(10, modeSkip), vendor: true, signer: notSigned, runs: true},
		{name: "6", cluster: of(10, modeSkip), signer: notSigned, texts: []string{"Unsigned", "all-6"}},
		{name: "7", cluster: of(10, modeEnforce, signedByA), vendor: true, signer: signedByK, texts: []string{"SignatureInvalid", "vendor-7"}},
		{name: "7a", cluster: of(10, modeEnforce, signedByA), vendor: true, signer: signedByA, runs: true},
		{name: "8", cluster: of(100, modeEnforce, signedByA), vendor: true, signer: signedByA, texts: []string{"SignatureInvalid", "all-8"}},
		{name: "8a", cluster: of(100, modeEnforce, signedByA), vendor: true, signer: signedByK, texts: []string{"SignatureInvalid", "vendor-8a"}},
		{name: "9", cluster: of(100, modeSkip), vendor: true, signer: notSigned, texts: []string{"Unsigned", "all-9"}},
		{name: "10", cluster: only(func(r *ruled, group string) *v1alpha1.ClusterVerificationPolicy {
			return r.cvp("warn-"+group, group, tierOverride, 100, modeWarn, "*", r.signer)
		}), signer: notSigned, runs: true},
		{name: "11", cluster: base, own: own(tekton.ModeWarn, acme), vendor: true, signer: notSigned, runs: true},
		{name: "12", cluster: base, own: own(tekton.ModeWarn, acme), signer: notSigned, texts: []string{"Unsigned", "base-12", "tier Default"}},
		{name: "13", cluster: base, own: own(tekton.ModeEnforce, "("+acme+"|https://b/.*)"), vendor: true, signer: signedByA, runs: true},
		{name: "14", cluster: func(r *ruled, group string) []*v1alpha1.ClusterVerificationPolicy {
			return []*v1alpha1.ClusterVerificationPolicy{
				all(r, group),
				r.cvp("own-"+group, group, tierOverride, 10, modeSkip, "/apis/tekton.dev/v1/namespaces/$(namespace)/*"),
			}
		}, signer: notSigned, runs: true},
		{name: "14a", cluster: func(r *ruled, group string) []*v1alpha1.ClusterVerificationPolicy {
			return []*v1alpha1.ClusterVerificationPolicy{
				all(r, group),
				r.cvp("own-"+group, group, tierOverride, 10, modeSkip, "/apis/tekton.dev/v1/namespaces/$(namespace)/*"),
			}
		}, vendor: true, signer: notSigned, texts: []string{"Unsigned", "all-14a"}},
	}
	namespaces := map[string]string{}
	for _, example := range examples {
		namespaces[example.name] = r.group(example.name)
		if example.own != nil {
			example.own(r, namespaces[example.name])
		}
		for _, p := range example.cluster(r, example.name) {
			r.put(p)
		}
	}
	for _, example := range examples {
		for _, p := range example.cluster(r, example.name) {
			r.waitReady(p.Name)
		}
	}
	for _, example := range examples {
		r.startExample(example, namespaces[example.name], vendor)
	}
	for _, example := range examples {
		t.Run(example.name, func(t *testing.T) {
			r.sub(t).expectExample(example, namespaces[example.name])
		})
	}
}

func (r *ruled) sub(t *testing.T) *ruled {
	m := *r.matrix
	m.env = r.env.sub(t)
	return &ruled{&m, r.policies}
}

// startExample creates a Task and a Pipeline, and a run of each.
func (r *ruled) startExample(x example, namespace, vendor string) {
	r.t.Helper()
	from, name := namespace, "build"
	if x.vendor {
		from, name = vendor, "build-"+x.name
	}
	task := newTask(from, name)
	r.signedBy(x.signer(r), task)
	taskRef := v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, from, name)}
	pipeline := &v1.Pipeline{ObjectMeta: metav1.ObjectMeta{Namespace: from, Name: name}, Spec: v1.PipelineSpec{Tasks: []v1.PipelineTask{{Name: "build", TaskRef: &taskRef}}}}
	if signer := x.signer(r); signer != nil {
		r.check(signer.Sign(r.t.Context(), pipeline))
	}
	r.createObject(pipeline)
	r.createTaskRun(namespace, "task", &taskRef)
	_, err := cluster.Tekton.TektonV1().PipelineRuns(namespace).Create(r.t.Context(), &v1.PipelineRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pipeline"},
		Spec:       v1.PipelineRunSpec{PipelineRef: &v1.PipelineRef{ResolverRef: harness.ClusterRef(resource.Pipeline, from, name)}},
	}, metav1.CreateOptions{})
	r.check(err)
}

func (r *ruled) expectExample(x example, namespace string) {
	r.t.Helper()
	task := r.waitDone(namespace, "task")
	if x.runs {
		r.expectSuccess(task)
	} else {
		r.expectHeldBack(task, x.texts...)
	}
	if done := r.waitPipelineDone(namespace, "pipeline"); done.IsSuccessful() != x.runs {
		r.t.Errorf("the PipelineRun succeeded: %t, want %t: %+v", !x.runs, x.runs, done.Status.Conditions)
	}
}
