// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// reference is how a run refers to its resource.
type reference string

const (
	byCluster   reference = "cluster resolver"
	byName      reference = "local name"
	byAdmission reference = "local name with the admission policy"
	byBundle    reference = "bundle"
	byGit       reference = "git"
	inline      reference = "inline"
)

var references = []reference{byCluster, byName, byAdmission, byBundle, byGit, inline}

// situation is the state of the resources of a run, and of the policies for them.
type situation string

const (
	trusted     situation = "signed and trusted"
	unsigned    situation = "unsigned"
	tampered    situation = "tampered with"
	unknownKey  situation = "signed by an unknown key"
	noPolicy    situation = "no matching policy"
	warned      situation = "unsigned under a warn policy"
	twoPolicies situation = "two enforce policies, one fails"
	deleted     situation = "deleted before the attestation"
	changed     situation = "changed before the attestation"
	forged      situation = "signature forged on the run"
)

var situations = []situation{trusted, unsigned, tampered, unknownKey, noPolicy, warned, twoPolicies, deleted, changed, forged}

// cell is one run in the matrix of references and situations.
type cell struct {
	reference reference
	situation situation
	pipeline  bool // a PipelineRun, not a TaskRun
	namespace string
	run       metav1.Object
}

func (c cell) String() string {
	kind := "TaskRun"
	if c.pipeline {
		kind = "PipelineRun"
	}
	return fmt.Sprintf("%s/%s/%s", kind, c.reference, c.situation)
}

// want returns what the attestation must state about each resource of the run.
func (c cell) want() (result, reason, mode string) {
	switch {
	case c.reference == inline:
		return "SKIPPED", "Inline", ""
	case c.reference == byName && (c.situation == deleted || c.situation == changed):
		return "SKIPPED", "ContentUnavailable", ""
	}
	switch c.situation {
	case unsigned, forged:
		return "FAILED", "Unsigned", "enforce"
	case tampered, unknownKey, twoPolicies:
		return "FAILED", "SignatureInvalid", "enforce"
	case noPolicy:
		return "SKIPPED", "NoPolicy", "skip"
	case warned:
		return "FAILED", "Unsigned", "warn"
	case trusted, deleted, changed:
	}
	return "PASSED", "", "enforce"
}

// runs reports whether Tekton starts the run.
func (c cell) runs() bool {
	result, _, mode := c.want()
	return result != "FAILED" || mode == "warn" || c.reference == byName
}

// wantTekton returns the status of Tekton's condition, and what the attestation must
// state about the agreement with our verdict.
func (c cell) wantTekton() (status, agreement string) {
	if c.reference == inline || c.reference == byName {
		return "Absent", "NOT_COMPARABLE"
	}
	switch result, _, _ := c.want(); result {
	case "PASSED":
		return "True", "AGREES"
	case "FAILED":
		return "False", "AGREES"
	default:
		return "Absent", "AGREES"
	}
}

// lasts reports whether the test changes the resources while the run is in progress.
func (c cell) lasts() bool { return c.situation == deleted || c.situation == changed }

func (c cell) rank() int {
	if c.lasts() {
		return 0
	}
	return 1
}

// matrix is an env with the keys and servers that all cells share. It embeds env for
// its helpers and adds none with the same name.
type matrix struct {
	*env
	signer, otherSigner harness.Signer
	registry            *harness.Registry
	git                 *harness.Git
}

func newMatrix(e *env) *matrix {
	e.t.Helper()
	m := &matrix{env: e}
	var err error
	m.signer, err = harness.NewSigner()
	e.check(err)
	m.otherSigner, err = harness.NewSigner()
	e.check(err)
	m.registry, err = harness.StartRegistry(context.Background())
	e.check(err)
	e.cleanup(m.registry.Stop)
	m.git, err = harness.StartGit(context.Background())
	e.check(err)
	e.cleanup(m.git.Close)
	return m
}

// createPolicies creates the policies of a situation in a namespace.
func (m *matrix) createPolicies(namespace string, s situation) {
	m.t.Helper()
	switch s {
	case noPolicy:
		m.createPolicy(namespace, "elsewhere", "https://elsewhere/.*", v1alpha1.ModeEnforce, m.signer)
	case warned:
		m.createPolicy(namespace, "warn", ".*", v1alpha1.ModeWarn, m.signer)
	case twoPolicies:
		m.createPolicy(namespace, "first", ".*", v1alpha1.ModeEnforce, m.signer)
		m.createPolicy(namespace, "second", ".*", v1alpha1.ModeEnforce, m.otherSigner)
	case trusted, unsigned, tampered, unknownKey, deleted, changed, forged:
		m.createPolicy(namespace, "trust", ".*", v1alpha1.ModeEnforce, m.signer)
	}
}

func (m *matrix) createPolicy(namespace, name, pattern string, mode v1alpha1.ModeType, signer harness.Signer) {
	m.t.Helper()
	public, err := signer.PublicKey()
	m.check(err)
	pem, err := cryptoutils.MarshalPublicKeyToPEM(public)
	m.check(err)
	_, err = cluster.Tekton.TektonV1alpha1().VerificationPolicies(namespace).Create(m.t.Context(), &v1alpha1.VerificationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.VerificationPolicySpec{
			Resources:   []v1alpha1.ResourcePattern{{Pattern: pattern}},
			Authorities: []v1alpha1.Authority{{Name: "key", Key: &v1alpha1.KeyRef{Data: string(pem)}}},
			Mode:        mode,
		},
	}, metav1.CreateOptions{})
	m.check(err)
}

// prepareObject signs a resource, or not, as the situation requires.
func (m *matrix) prepareObject(obj resource.Object, s situation, tamper func()) {
	m.t.Helper()
	switch s {
	case unsigned, warned, forged:
		obj.SetDefaults(m.t.Context())
	case unknownKey:
		m.check(m.otherSigner.Sign(m.t.Context(), obj))
	case tampered:
		m.check(m.signer.Sign(m.t.Context(), obj))
		tamper()
	case trusted, noPolicy, twoPolicies, deleted, changed:
		m.check(m.signer.Sign(m.t.Context(), obj))
	}
}

// publish stores a resource where the reference of the cell finds it.
func (m *matrix) publish(c cell, obj resource.Object) v1.ResolverRef {
	m.t.Helper()
	kind := resource.Task
	if _, ok := obj.(*v1.Pipeline); ok {
		kind = resource.Pipeline
	}
	switch c.reference {
	case byBundle:
		ref, err := m.registry.PushBundle(m.t.Context(), obj)
		m.check(err)
		return harness.BundleRef(ref, kind, obj.GetName())
	case byGit:
		manifest, err := harness.Manifest(obj)
		m.check(err)
		path := fmt.Sprintf("%s/%s/%s.yaml", c.namespace, kind, obj.GetName())
		revision, err := m.git.Commit(m.t.Context(), path, manifest)
		m.check(err)
		return m.git.Ref(revision, path)
	case byCluster, byName, byAdmission, inline:
	}
	m.createObject(obj)
	if c.reference == byCluster {
		return harness.ClusterRef(kind, obj.GetNamespace(), obj.GetName())
	}
	return v1.ResolverRef{}
}

func (m *matrix) createObject(obj resource.Object) {
	m.t.Helper()
	var err error
	switch obj := obj.(type) {
	case *v1.Task:
		_, err = cluster.Tekton.TektonV1().Tasks(obj.Namespace).Create(m.t.Context(), obj, metav1.CreateOptions{})
	case *v1.Pipeline:
		_, err = cluster.Tekton.TektonV1().Pipelines(obj.Namespace).Create(m.t.Context(), obj, metav1.CreateOptions{})
	}
	m.check(err)
}

// startRun creates the resources and the run of a cell.
func (m *matrix) startRun(c *cell, name string) {
	m.t.Helper()
	annotations := harness.BuildsImage()
	if c.lasts() {
		annotations["kubelet.localcluster/duration"] = "20s"
	}
	if c.situation == forged {
		other := newTask(c.namespace, "other")
		m.check(m.signer.Sign(m.t.Context(), other))
		annotations[trustedresources.SignatureAnnotation] = signature(other)
	}
	meta := metav1.ObjectMeta{Namespace: c.namespace, Name: name, Annotations: annotations}

	built := newTask(c.namespace, name, buildsImage)
	m.prepareObject(built, c.situation, func() { built.Spec.Steps[0].Script = "echo evil" })
	taskRef := &v1.TaskRef{}
	if c.reference != inline {
		taskRef.ResolverRef = m.publish(*c, built)
		if taskRef.Resolver == "" {
			taskRef.Name = name
		}
	}
	var err error
	if !c.pipeline {
		run := &v1.TaskRun{ObjectMeta: meta, Spec: v1.TaskRunSpec{TaskRef: taskRef}}
		if c.reference == inline {
			run.Spec.TaskRef, run.Spec.TaskSpec = nil, &built.Spec
		}
		c.run, err = cluster.Tekton.TektonV1().TaskRuns(c.namespace).Create(m.t.Context(), run, metav1.CreateOptions{})
		m.check(err)
		return
	}
	pipeline := newPipeline(c.namespace, name, v1.PipelineTask{Name: "build", TaskRef: taskRef})
	if c.reference == inline {
		pipeline.Spec.Tasks[0] = v1.PipelineTask{Name: "build", TaskSpec: &v1.EmbeddedTask{TaskSpec: built.Spec}}
	}
	m.prepareObject(pipeline, c.situation, func() { pipeline.Spec.Description = "evil" })
	run := &v1.PipelineRun{ObjectMeta: meta, Spec: v1.PipelineRunSpec{PipelineRef: &v1.PipelineRef{}}}
	if c.reference == inline {
		run.Spec.PipelineRef, run.Spec.PipelineSpec = nil, &pipeline.Spec
	} else {
		run.Spec.PipelineRef.ResolverRef = m.publish(*c, pipeline)
		if run.Spec.PipelineRef.Resolver == "" {
			run.Spec.PipelineRef.Name = name
		}
	}
	c.run, err = cluster.Tekton.TektonV1().PipelineRuns(c.namespace).Create(m.t.Context(), run, metav1.CreateOptions{})
	m.check(err)
}

// buildsImage gives a Task the results of a Task that builds an image.
func buildsImage(t *v1.Task) {
	t.Spec.Results = []v1.TaskResult{{Name: "IMAGE_URL"}, {Name: "IMAGE_DIGEST"}}
}

// newPipeline returns a Pipeline whose results are the results of its task "build".
func newPipeline(namespace, name string, tasks ...v1.PipelineTask) *v1.Pipeline {
	p := &v1.Pipeline{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	p.Spec.Tasks = tasks
	for _, result := range []string{"IMAGE_URL", "IMAGE_DIGEST"} {
		p.Spec.Results = append(p.Spec.Results, v1.PipelineResult{
			Name: result, Value: *v1.NewStructuredValues("$(tasks.build.results." + result + ")"),
		})
	}
	return p
}

// changeResources deletes or changes the resources as soon as the run does not need
// them any more.
func (m *matrix) changeResources(c cell) {
	m.t.Helper()
	if c.reference == inline || c.reference == byBundle || c.reference == byGit {
		return
	}
	tekton, name := cluster.Tekton.TektonV1(), c.run.GetName()
	taskRun := name
	if c.pipeline {
		taskRun += "-build"
	}
	m.waitUnderway(c.namespace, taskRun)
	patch, options := []byte(`{"spec":{"description":"another"}}`), metav1.PatchOptions{}
	var err error
	if c.situation == deleted {
		err = tekton.Tasks(c.namespace).Delete(m.t.Context(), name, metav1.DeleteOptions{})
	} else {
		_, err = tekton.Tasks(c.namespace).Patch(m.t.Context(), name, types.MergePatchType, patch, options)
	}
	m.check(err)
	if c.pipeline {
		if c.situation == deleted {
			err = tekton.Pipelines(c.namespace).Delete(m.t.Context(), name, metav1.DeleteOptions{})
		} else {
			_, err = tekton.Pipelines(c.namespace).Patch(m.t.Context(), name, types.MergePatchType, patch, options)
		}
		m.check(err)
	}
	if m.runDone(c) {
		m.t.Fatalf("run %v ended before its resources were changed: increase its duration", c)
	}
}

func (m *matrix) runDone(c cell) bool {
	m.t.Helper()
	if c.pipeline {
		run, err := cluster.Tekton.TektonV1().PipelineRuns(c.namespace).Get(m.t.Context(), c.run.GetName(), metav1.GetOptions{})
		m.check(err)
		return run.IsDone()
	}
	run, err := cluster.Tekton.TektonV1().TaskRuns(c.namespace).Get(m.t.Context(), c.run.GetName(), metav1.GetOptions{})
	m.check(err)
	return run.IsDone()
}
