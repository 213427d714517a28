// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/audit"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// The parts of the inputs in which people have secrets, each with a word of its own.
const (
	canaryOfSpec      = "canary-of-a-spec"
	canaryOfParameter = "canary-of-a-parameter"
	canaryOfDefault   = "canary-of-a-default"
	canaryOfURL       = "canary-of-a-url"
	canaryOfQuery     = "canary-of-a-query"
)

// Nothing that the controller says, at level debug too, has a part of a spec, a parameter, a
// secret or the credential in a URL.
func TestOutputs_HaveNoSecrets(t *testing.T) {
	e := newEnv(t)
	e.logDebug()
	e.configure(with(withProvenance, signAll))
	e.controller = e.addReplica("controller")
	m := newMatrix(e)
	ns := e.namespace()
	m.createPolicy(ns, "watch", ".*", tekton.ModeWarn, m.signer)

	secretive := func(task *v1.Task) {
		task.Spec.Params = v1.ParamSpecs{{Name: "p", Type: v1.ParamTypeString, Default: v1.NewStructuredValues(canaryOfDefault)}}
		task.Spec.Steps[0].Script = "echo " + canaryOfSpec
		task.Spec.Steps[0].Env = []corev1.EnvVar{{Name: "TOKEN", Value: canaryOfSpec}}
	}
	e.createTask(newTask(ns, "build", secretive))
	e.waitSigned(ns, "build")
	e.patchTask(ns, "build", `{"spec":{"description":"`+canaryOfSpec+`"}}`)
	e.waitSigned(ns, "build")
	e.createTask(newTask(ns, "garbage", secretive, withGarbage))
	e.waitSigned(ns, "garbage")

	params := v1.Params{{Name: "p", Value: *v1.NewStructuredValues(canaryOfParameter)}}
	passes := e.runWithParams(ns, v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, "build")}, params)
	e.expectSuccess(passes)
	// The resolver cannot read this, and Tekton's message about the run has the URL.
	fails := e.runWithParams(ns, v1.TaskRef{ResolverRef: v1.ResolverRef{Resolver: "http", Params: v1.Params{{
		Name: "url", Value: *v1.NewStructuredValues("http://user:" + canaryOfURL + "@127.0.0.1:9/task.yaml?token=" + canaryOfQuery),
	}}}}, params)
	if c := fails.GetStatusCondition().GetCondition(apis.ConditionSucceeded); !c.IsFalse() || !strings.Contains(c.Message, canaryOfQuery) {
		t.Errorf("got %s %s: %s; want a failure with the URL", c.Status, c.Reason, c.Message)
	}
	for _, run := range []*v1.TaskRun{passes, fails} {
		e.waitAttested(ns, run.Name)
	}
	e.expectNoSecrets(ns, canaryOfSpec, canaryOfParameter, canaryOfDefault, canaryOfURL, canaryOfQuery)
	e.expectRecordsFollowSchema(audit.ResourceSigning, audit.ResourceSigned, audit.Verification, audit.ConfigLoaded, audit.Started)
}

// expectRecordsFollowSchema requires audit records of these types in the log, and that each
// record follows the schema that is published.
func (e *env) expectRecordsFollowSchema(types ...audit.Type) {
	e.t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	schema, err := compiler.Compile(filepath.Join(harness.Root(), "docs", "audit.schema.json"))
	e.check(err)
	log, err := e.controller.Log()
	e.check(err)
	found := map[audit.Type]bool{}
	for line := range strings.Lines(linesWith(log, `"logger":"`+audit.Logger+`"`)) {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		e.check(err)
		if err := schema.Validate(value); err != nil {
			e.t.Errorf("%v: %s", err, line)
		}
		record, err := audit.Parse([]byte(strings.TrimSuffix(line, "\n")))
		e.check(err)
		found[record.Type] = true
	}
	for _, wanted := range types {
		if !found[wanted] {
			e.t.Errorf("the log has no audit record of type %s", wanted)
		}
	}
}

// runWithParams runs a TaskRun with parameters until its end.
func (e *env) runWithParams(namespace string, ref v1.TaskRef, params v1.Params) *v1.TaskRun {
	e.t.Helper()
	run, err := cluster.Run(e.t.Context(), &v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "run-"},
		Spec:       v1.TaskRunSpec{TaskRef: &ref, Params: params},
	}, soon)
	e.check(err)
	return run
}

// expectNoSecrets requires that the log with its audit records, the metrics and the Events of the controller have
// none of the words, and none of the signing secret.
func (e *env) expectNoSecrets(namespace string, words ...string) {
	e.t.Helper()
	for _, name := range []string{fixtures.CosignKey, fixtures.CosignPassword} {
		content, err := os.ReadFile(filepath.Join(e.secretsDir, name))
		e.check(err)
		lines := strings.Split(strings.TrimSpace(string(content)), "\n")
		words = append(words, lines[len(lines)/2])
	}
	outputs := map[string]string{}
	var err error
	outputs["log"], err = e.controller.Log()
	e.check(err)
	outputs["metrics"], err = httpGet(e.t.Context(), e.controller.MetricsURL)
	e.check(err)
	for _, ns := range []string{namespace, harness.SystemNamespace, metav1.NamespaceDefault} {
		events, err := cluster.Kube.CoreV1().Events(ns).List(e.t.Context(), metav1.ListOptions{})
		e.check(err)
		for _, event := range events.Items {
			if strings.HasPrefix(event.ReportingController, "trustedresources") {
				outputs["Events"] += event.Message + "\n"
			}
		}
	}
	for name, output := range outputs {
		if output == "" {
			e.t.Errorf("there are no %s to look at", name)
		}
		for _, word := range words {
			if i := strings.Index(output, word); i >= 0 {
				e.t.Errorf("the %s have %q: …%s", name, word, output[max(0, i-200):min(len(output), i+len(word)+20)])
			}
		}
	}
}
