package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/controllers/environment"
	"github.com/trusted-resources/chains-extension/pkg/controllers/resources"
	"github.com/trusted-resources/chains-extension/test/harness"
)

func countLines(text, with string) int {
	n := 0
	for line := range strings.Lines(text) {
		if strings.Contains(line, with) {
			n++
		}
	}
	return n
}

func TestNamespaceLabel_OptsInAndOut(t *testing.T) {
	e := start(t)
	ns, other := e.namespaceWith(nil), e.namespace()
	e.canary = other
	// settled proves that what came before has been looked at.
	settled := func(name string) {
		e.create(task(other, name))
		e.signed(other, name)
	}
	unsigned := func(name string) {
		t.Helper()
		if got := e.get(ns, name); signature(got) != "" {
			t.Errorf("%s is signed", name)
		}
	}

	e.create(task(ns, "early"))
	settled("a")
	unsigned("early")

	e.label(ns, "true")
	e.signed(ns, "early")

	e.label(ns, "false")
	e.optedOut(ns)
	e.create(task(ns, "late"))
	settled("c")
	unsigned("late")

	e.label(ns, "")
	e.configure(with(signAll, map[string]string{"trustedresources.namespaces": "all"}))
	e.signed(ns, "late")

	e.label(ns, "yes") // not a value that we know
	e.optedOut(ns)
	e.create(task(ns, "unknown"))
	settled("e")
	unsigned("unknown")
}

// optedOut waits until new Tasks of a namespace are left alone: its label
// reaches the controller on its own way.
func (e *env) optedOut(namespace string) {
	e.Helper()
	probe := func(t *v1.Task) { t.GenerateName = "probe-" }
	e.eventually(soon, func() error {
		left := e.create(task(namespace, "", probe))
		e.signed(e.canary, e.create(task(e.canary, "", probe)).Name)
		if signature(e.get(namespace, left.Name)) != "" {
			return fmt.Errorf("%s is signed", left.Name)
		}
		return nil
	})
}

func TestConfig_KeepsLastGoodWhenNewOneIsInvalid(t *testing.T) {
	e := start(t)
	ns := e.namespace()
	e.create(task(ns, "before"))
	e.signed(ns, "before")
	for name, tc := range map[string]struct{ key, value, says string }{
		"unknown signer":  {"artifacts.task.signer", "pgp", `found "pgp", expected one of: none, x509, kms`},
		"unknown storage": {"artifacts.pipeline.storage", "floppy", `found "floppy"`},
		"misspelt key":    {"artifacts.stepaction.singer", "x509", "unknown key"},
		"Chains' own":     {"artifacts.taskrun.format", "odd", "odd"},
	} {
		t.Run(name, func(t *testing.T) {
			e := e.in(t)
			// With a signer of none beside, we would see it if the bad one was taken.
			e.configure(map[string]string{"artifacts.task.signer": "none", tc.key: tc.value})
			cm, err := cluster.Kube.CoreV1().ConfigMaps(harness.SystemNamespace).Get(t.Context(), harness.ConfigMap, metav1.GetOptions{})
			e.check(err)
			e.event(cm, environment.ReasonConfigRefused, tc.says)
			e.logged(e.controller, "Configuration refused", strings.ReplaceAll(tc.says, `"`, `\"`))
			resource := strings.ToLower(strings.NewReplacer(" ", "-", "'", "").Replace(name))
			e.create(task(ns, resource))
			e.signed(ns, resource)
		})
	}
	// And a good one is taken again.
	e.configure(map[string]string{"artifacts.task.signer": "none"})
	e.logged(e.controller, "Configuration loaded", `"signers":[]`)
	e.create(task(ns, "off"))
	e.untouched(ns, 2*time.Second)
}

func TestConfig_SignsNothingWhenInvalidAtStart(t *testing.T) {
	e := prepare(t)
	ns := e.namespace()
	e.configure(with(signAll, map[string]string{"artifacts.task.signer": "pgp"}))
	e.create(task(ns, "waits"))
	e.controller = e.replica("controller")
	e.logged(e.controller, "Configuration refused", "pgp")
	if got := e.get(ns, "waits"); signature(got) != "" {
		t.Error("something was signed without a configuration")
	}
	e.configure(signAll)
	e.signed(ns, "waits")
}

// On a Tekton whose checksum differs nothing is signed, and the controller says
// why; after the upgrade it signs.
func TestController_SignsNothingOnOldTekton(t *testing.T) {
	e := prepare(t)
	ns := e.namespace()
	release := func(version string) string {
		info := cluster.Kube.CoreV1().ConfigMaps("tekton-pipelines")
		before, err := info.Get(t.Context(), "pipelines-info", metav1.GetOptions{})
		e.check(err)
		_, err = info.Patch(t.Context(), "pipelines-info", types.MergePatchType, []byte(`{"data":{"version":"`+version+`"}}`), metav1.PatchOptions{})
		e.check(err)
		return before.Data["version"]
	}
	current := release("v1.9.3")
	defer release(current)
	e.controller = e.replica("controller")
	created := e.create(task(ns, "waits"))
	e.event(created, resources.ReasonTektonTooOld, "v1.9.3", "v1.10.0")
	e.logged(e.controller, "Nothing is signed", "v1.9.3")
	if got := e.get(ns, "waits"); signature(got) != "" {
		t.Error("it was signed all the same")
	}
	release(current)
	e.signed(ns, "waits")
}
