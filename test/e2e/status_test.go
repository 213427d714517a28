// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// startWithStatus starts a controller that adds the verification status to attestations.
func startWithStatus(t *testing.T) *matrix {
	t.Helper()
	e := startController(t)
	e.configure(withProvenance)
	return newMatrix(e)
}

// newTaskRun returns a TaskRun with the results of a build.
func newTaskRun(namespace, name string, ref *v1.TaskRef, modifiers ...func(*v1.TaskRun)) *v1.TaskRun {
	run := &v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: harness.BuildsImage()},
		Spec:       v1.TaskRunSpec{TaskRef: ref},
	}
	for _, modify := range modifiers {
		modify(run)
	}
	return run
}

func (m *matrix) createTaskRun(namespace, name string, ref *v1.TaskRef, modifiers ...func(*v1.TaskRun)) {
	m.t.Helper()
	m.createTaskRunAs(cluster, newTaskRun(namespace, name, ref, modifiers...))
}

func (m *matrix) createTaskRunAs(user *harness.Cluster, run *v1.TaskRun) {
	m.t.Helper()
	_, err := user.Tekton.TektonV1().TaskRuns(run.Namespace).Create(m.t.Context(), run, metav1.CreateOptions{})
	m.check(err)
}

// lasting gives the test time to change resources while the TaskRun is in progress.
func lasting(run *v1.TaskRun) { lastingFor(15 * time.Second)(run) }

// lastingFor returns a modifier that makes a TaskRun last for a time.
func lastingFor(duration time.Duration) func(*v1.TaskRun) {
	return func(run *v1.TaskRun) {
		run.Annotations["kubelet.localcluster/duration"] = harness.TimeLimit(duration).String()
	}
}

// waitUnderway waits until a TaskRun has a pod. From then on it does not need its Task.
func (m *matrix) waitUnderway(namespace, name string) {
	m.t.Helper()
	m.eventually(soon, func() error {
		run, err := cluster.Tekton.TektonV1().TaskRuns(namespace).Get(m.t.Context(), name, metav1.GetOptions{})
		if err == nil && run.Status.PodName == "" {
			err = fmt.Errorf("TaskRun %s has no pod yet", name)
		}
		return err
	})
}

// describe returns one line for each resource in an attestation.
func describe(verifications []harness.Verification) string {
	lines := make([]string, 0, len(verifications))
	for _, v := range verifications {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", v.Kind, v.Name, v.Result, v.Reason)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (m *matrix) expectVerifications(p *harness.Provenance, want ...string) {
	m.t.Helper()
	verifications, _ := m.verificationStatus(p)
	slices.Sort(want)
	if got := describe(verifications); got != strings.Join(want, "\n") {
		m.t.Errorf("verifications in the attestation: got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func (m *matrix) createStepAction(namespace, name string, signed bool) {
	m.t.Helper()
	action := &v1beta1.StepAction{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1beta1.StepActionSpec{
			Image: "alpine", Command: []string{"echo"}, Args: []string{"$(params.greeting)"},
			Params: v1.ParamSpecs{{Name: "greeting", Type: v1.ParamTypeString}},
		},
	}
	if signed {
		m.check(m.signer.Sign(m.t.Context(), action))
	}
	_, err := cluster.Tekton.TektonV1beta1().StepActions(namespace).Create(m.t.Context(), action, metav1.CreateOptions{})
	m.check(err)
}

// Tekton never verifies StepActions. The attestation states whether their signatures
// are valid.
func TestAttestation_StatesVerificationOfStepActions(t *testing.T) {
	m := startWithStatus(t)
	ns := m.namespaceLabelled(nil)
	m.createPolicies(ns, trusted)
	m.createStepAction(ns, "signed", true)
	m.createStepAction(ns, "unsigned", false)
	greeting := v1.Params{{Name: "greeting", Value: *v1.NewStructuredValues("$(params.greeting)")}}
	byRef := func(name string) v1.Step {
		ref := &v1.Ref{ResolverRef: harness.ClusterRef(resource.StepAction, ns, name)}
		return v1.Step{Name: "ref-" + name, Ref: ref, Params: greeting}
	}
	local := func(name string) v1.Step {
		return v1.Step{Name: "local-" + name, Ref: &v1.Ref{Name: name}, Params: greeting}
	}
	for name, steps := range map[string][]v1.Step{
		"refs":   {byRef("signed"), byRef("unsigned")},
		"locals": {local("signed"), local("unsigned")},
	} {
		greets := newTask(ns, name, buildsImage, func(t *v1.Task) {
			t.Spec.Steps = steps
			t.Spec.Params = v1.ParamSpecs{{Name: "greeting", Type: v1.ParamTypeString, Default: v1.NewStructuredValues("hello")}}
		})
		m.check(m.signer.Sign(t.Context(), greets))
		m.createTask(greets)
	}
	greeted := func(run *v1.TaskRun) {
		run.Spec.Params = v1.Params{{Name: "greeting", Value: *v1.NewStructuredValues("good morning")}}
	}
	for _, name := range []string{"refs", "locals"} {
		m.createTaskRun(ns, name+"-by-name", &v1.TaskRef{Name: name}, greeted)
		m.createTaskRun(ns, name+"-by-resolver", &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, name)}, greeted)
		m.createTaskRun(ns, name+"-changed", &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, name)}, greeted, lasting)
		m.waitUnderway(ns, name+"-changed")
	}
	for _, name := range []string{"refs", "locals"} {
		for _, how := range []string{"-by-name", "-by-resolver"} {
			m.expectVerifications(m.waitAttestation(ns, name+how, false, soon),
				"Task "+name+" PASSED", "StepAction signed PASSED", "StepAction unsigned FAILED Unsigned")
		}
	}
	_, err := cluster.Tekton.TektonV1beta1().StepActions(ns).Patch(t.Context(), "unsigned", types.MergePatchType,
		[]byte(`{"spec":{"command":["cat"]}}`), metav1.PatchOptions{})
	m.check(err)
	m.expectVerifications(m.waitAttestation(ns, "refs-changed", false, soon),
		"Task refs PASSED", "StepAction signed PASSED", "StepAction unsigned FAILED Unsigned")
	m.expectVerifications(m.waitAttestation(ns, "locals-changed", false, soon), // the run may have used either content
		"Task locals PASSED", "StepAction signed SKIPPED ContentUnavailable", "StepAction unsigned SKIPPED ContentUnavailable")
}

// If a Task changes while Tekton starts a run, Tekton may record another content than it
// runs. So the content of a Task with a local name counts as unknown if the Task has
// changed since the run was created, even if it has changed back.
func TestAttestation_SkipsTaskChangedAndChangedBack(t *testing.T) {
	m := startWithStatus(t)
	ns := m.namespaceLabelled(nil)
	m.createPolicies(ns, trusted)
	built := newTask(ns, "built", buildsImage)
	m.check(m.signer.Sign(t.Context(), built))
	m.createTask(built)
	m.createTaskRun(ns, "run", &v1.TaskRef{Name: "built"}, lasting)
	m.waitUnderway(ns, "run")
	m.patchTask(ns, "built", `{"spec":{"description":"another"}}`)
	m.patchTask(ns, "built", `{"spec":{"description":null}}`)
	m.expectVerifications(m.waitAttestation(ns, "run", false, soon), "Task built SKIPPED ContentUnavailable")
	m.createTaskRun(ns, "later", &v1.TaskRef{Name: "built"})
	m.expectVerifications(m.waitAttestation(ns, "later", false, soon), "Task built PASSED")
}

// For twenty Tasks of one bundle Chains writes one dependency. Each Task still has an
// entry of its own.
func TestAttestation_ListsTwentyTasksOfOneBundle(t *testing.T) {
	m := startWithStatus(t)
	ns := m.namespaceLabelled(nil)
	m.createPolicies(ns, warned)
	objects := make([]resource.Object, 0, 20)
	want := []string{"Pipeline twenty PASSED"}
	for i := range 20 {
		built := newTask(ns, fmt.Sprintf("task-%02d", i), buildsImage)
		if i%2 == 0 {
			m.check(m.signer.Sign(t.Context(), built))
			want = append(want, "Task "+built.Name+" PASSED")
		} else {
			built.SetDefaults(t.Context())
			want = append(want, "Task "+built.Name+" FAILED Unsigned")
		}
		objects = append(objects, built)
	}
	bundle, err := m.registry.PushBundle(t.Context(), objects...)
	m.check(err)
	pipeline := newPipeline(ns, "twenty")
	for i, object := range objects {
		name := object.GetName()
		if i == 0 {
			name = "build"
		}
		pipeline.Spec.Tasks = append(pipeline.Spec.Tasks, v1.PipelineTask{
			Name: name, TaskRef: &v1.TaskRef{ResolverRef: harness.BundleRef(bundle, resource.Task, object.GetName())},
		})
	}
	m.check(m.signer.Sign(t.Context(), pipeline))
	m.createObject(pipeline)
	_, err = cluster.Tekton.TektonV1().PipelineRuns(ns).Create(t.Context(), &v1.PipelineRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "run", Annotations: harness.BuildsImage()},
		Spec:       v1.PipelineRunSpec{PipelineRef: &v1.PipelineRef{Name: "twenty"}},
	}, metav1.CreateOptions{})
	m.check(err)
	p := m.waitAttestation(ns, "run", true, harness.TimeLimit(3*time.Minute))
	m.expectVerifications(p, want...)
	verifications, summary := m.verificationStatus(p)
	if counts := summary.Counts; counts.Passed != 11 || counts.Failed != 10 || counts.Skipped != 0 {
		t.Errorf("got counts %+v, want 11 passed and 10 failed", counts)
	}
	dependencies := map[any]bool{}
	for _, v := range verifications {
		dependencies[v.Dependency] = true
	}
	if len(dependencies) != 2 {
		t.Errorf("%d dependencies have entries, want 2: the Pipeline and the bundle", len(dependencies))
	}
}

// A failure to read content, a policy or a key is stated in the attestation. It does not
// make the run fail.
func TestAttestation_NamesUnavailableParts(t *testing.T) {
	m := startWithStatus(t)
	m.configure(with(withProvenance, map[string]string{"trustedresources.policies.kms": "hashivault://absent"}))

	t.Run("registry is down", func(t *testing.T) {
		m := &matrix{env: m.sub(t), signer: m.signer, registry: m.registry}
		ns := m.namespaceLabelled(nil)
		m.createPolicies(ns, trusted)
		built := newTask(ns, "built", buildsImage)
		m.check(m.signer.Sign(t.Context(), built))
		bundle, err := m.registry.PushBundle(t.Context(), built)
		m.check(err)
		m.createTaskRun(ns, "run", &v1.TaskRef{ResolverRef: harness.BundleRef(bundle, resource.Task, "built")}, lasting)
		m.waitUnderway(ns, "run")
		m.check(m.registry.Stop())
		m.expectVerifications(m.waitAttestation(ns, "run", false, soon), "Task built PASSED")
		m.check(m.registry.Start(t.Context()))
	})

	for _, tc := range []struct {
		name      string
		authority v1alpha1.Authority
		want      string
	}{
		// Tekton's controller panics on such an authority, but reads no policies for a local name.
		{"authority has no key", v1alpha1.Authority{Name: "none"}, "FAILED PolicyInvalid"},
		{"Secret does not exist", v1alpha1.Authority{Name: "secret", Key: &v1alpha1.KeyRef{
			SecretRef: &corev1.SecretReference{Name: "absent", Namespace: "default"},
		}}, "FAILED KeyUnavailable"},
		{"KMS does not exist", v1alpha1.Authority{Name: "kms", Key: &v1alpha1.KeyRef{KMS: "hashivault://absent"}}, "FAILED KeyUnavailable"},
		{"KMS is not allowed", v1alpha1.Authority{Name: "kms", Key: &v1alpha1.KeyRef{KMS: "hashivault://other"}}, "FAILED KeyNotAllowed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &matrix{env: m.sub(t), signer: m.signer}
			ns := m.namespaceLabelled(nil)
			_, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Create(t.Context(), &v1alpha1.VerificationPolicy{
				ObjectMeta: metav1.ObjectMeta{Name: "broken"},
				Spec: v1alpha1.VerificationPolicySpec{
					Resources: []v1alpha1.ResourcePattern{{Pattern: ".*"}}, Authorities: []v1alpha1.Authority{tc.authority},
				},
			}, metav1.CreateOptions{})
			m.check(err)
			built := newTask(ns, "built", buildsImage)
			m.check(m.signer.Sign(t.Context(), built))
			m.createTask(built)
			m.createTaskRun(ns, "run", &v1.TaskRef{Name: "built"})
			m.expectVerifications(m.waitAttestation(ns, "run", false, soon), "Task built "+tc.want)
			run, err := cluster.Tekton.TektonV1().TaskRuns(ns).Get(t.Context(), "run", metav1.GetOptions{})
			m.check(err)
			if c := run.Status.GetCondition(apis.ConditionSucceeded); !c.IsTrue() {
				t.Errorf("the run has condition %+v, want success", c)
			}
		})
	}
}

// A policy may have changed since Tekton verified the run. The attestation, an Event and
// a metric then report that our verdict differs from Tekton's.
func TestAttestation_ReportsDisagreementWithTekton(t *testing.T) {
	m := startWithStatus(t)
	ns := m.namespaceLabelled(nil)
	m.createPolicies(ns, trusted)
	built := newTask(ns, "built", buildsImage)
	m.check(m.signer.Sign(t.Context(), built))
	m.createTask(built)
	m.createTaskRun(ns, "run", &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, "built")}, lasting)
	m.waitUnderway(ns, "run")
	policies := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns)
	m.check(policies.Delete(t.Context(), "trust", metav1.DeleteOptions{}))
	m.createPolicy(ns, "others", ".*", v1alpha1.ModeEnforce, m.otherSigner)

	p := m.waitAttestation(ns, "run", false, soon)
	m.expectVerifications(p, "Task built FAILED SignatureInvalid")
	if _, summary := m.verificationStatus(p); summary.Agreement != "DIFFERS" || summary.Tekton.Status != "True" {
		t.Errorf("the summary is %+v, want DIFFERS and Tekton status True", summary)
	}
	run, err := cluster.Tekton.TektonV1().TaskRuns(ns).Get(t.Context(), "run", metav1.GetOptions{})
	m.check(err)
	m.waitEvent(run, "VerificationDiffers", "Task built", "True")
	m.waitMetric(`trustedresources_verification_differences_total{kind="TaskRun"} 1`)
}

// With the RBAC of config/ the controller can read the Secrets that policies refer to.
// If no policy trusts the controller's own key, the attestation names that key.
func TestAttestation_NamesKeys(t *testing.T) {
	m := startWithStatus(t)
	ns := m.namespace()
	m.configure(with(signAll, withProvenance))
	m.createTask(newTask(ns, "built", buildsImage))
	m.waitSigned(ns, "built")
	pem, err := cryptoutils.MarshalPublicKeyToPEM(m.public)
	m.check(err)
	_, err = cluster.Kube.CoreV1().Secrets(ns).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "key"}, Data: map[string][]byte{"cosign.pub": pem},
	}, metav1.CreateOptions{})
	m.check(err)
	_, err = cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Create(t.Context(), &v1alpha1.VerificationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "by-secret"},
		Spec: v1alpha1.VerificationPolicySpec{
			Resources: []v1alpha1.ResourcePattern{{Pattern: ".*"}},
			Authorities: []v1alpha1.Authority{{Name: "key", Key: &v1alpha1.KeyRef{
				SecretRef: &corev1.SecretReference{Name: "key", Namespace: ns},
			}}},
		},
	}, metav1.CreateOptions{})
	m.check(err)
	m.createTaskRun(ns, "passed", &v1.TaskRef{Name: "built"})
	m.expectVerifications(m.waitAttestation(ns, "passed", false, soon), "Task built PASSED")

	m.check(cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Delete(t.Context(), "by-secret", metav1.DeleteOptions{}))
	m.createPolicy(ns, "others", ".*", v1alpha1.ModeWarn, m.otherSigner)
	m.createTaskRun(ns, "unknown", &v1.TaskRef{Name: "built"})
	p := m.waitAttestation(ns, "unknown", false, soon)
	m.expectVerifications(p, "Task built FAILED KeyUnknown")
	if verifications, _ := m.verificationStatus(p); !strings.HasPrefix(verifications[0].KeyID, "sha256:") {
		t.Errorf("the entry names no key: %+v", verifications[0])
	}
}
