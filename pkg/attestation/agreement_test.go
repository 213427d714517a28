package attestation

import (
	"encoding/base64"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

var encoded = base64.StdEncoding.EncodeToString

func assessed(t *testing.T, v Verifier, keys Keys, condition *apis.Condition, items ...dependencies.Item) Report {
	t.Helper()
	return Assess(t.Context(), v, keys, "ns", items, condition, now)
}

// The signature of the content itself comes first, as for Tekton; others count
// only if they verify.
func TestWhichSignatureDecides(t *testing.T) {
	passed, noPolicy := outcome(policy.Passed, ""), outcome(policy.Skipped, policy.NoPolicy)
	unsigned, invalid := outcome(policy.Failed, policy.Unsigned), outcome(policy.Failed, policy.SignatureInvalid)
	verifier := verdicts{"": unsigned, "good": passed, "forged": invalid, "another": invalid}
	for name, tc := range map[string]struct {
		verifier   verdicts
		signatures []string
		want       policy.Result
		reason     policy.Reason
	}{
		"its own":                                  {verifier, []string{"good"}, policy.Passed, ""},
		"its own is invalid":                       {verifier, []string{"forged"}, policy.Failed, policy.SignatureInvalid},
		"none":                                     {verifier, []string{""}, policy.Failed, policy.Unsigned},
		"none, a valid one elsewhere":              {verifier, []string{"", "good"}, policy.Passed, ""},
		"none, a forged one on the run":            {verifier, []string{"", "forged"}, policy.Failed, policy.Unsigned},
		"its own, a forged one on the run":         {verifier, []string{"good", "forged"}, policy.Passed, ""},
		"its own is invalid, a valid one on it":    {verifier, []string{"forged", "good"}, policy.Passed, ""},
		"all are invalid":                          {verifier, []string{"forged", "another", ""}, policy.Failed, policy.SignatureInvalid},
		"a valid one after many":                   {verifier, []string{"", "forged", "another", "good"}, policy.Passed, ""},
		"no policy matches":                        {verdicts{"": noPolicy, "good": noPolicy}, []string{"", "good"}, policy.Skipped, policy.NoPolicy},
		"policies cannot be read":                  {verdicts{}, []string{"good"}, policy.Skipped, policy.PolicyInvalid},
		"policies cannot be read any more":         {verdicts{"": unsigned}, []string{"", "good"}, policy.Skipped, policy.PolicyInvalid},
		"a key cannot be read, and none is needed": {verdicts{"": outcome(policy.Failed, policy.KeyUnavailable), "good": passed}, []string{"", "good"}, policy.Passed, ""},
		"a key cannot be read":                     {verdicts{"good": outcome(policy.Failed, policy.KeyUnavailable)}, []string{"good"}, policy.Failed, policy.KeyUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			got := assessed(t, tc.verifier, ours(""), nil, item(dependencies.Task, "a", candidates(tc.signatures...))).Records[0]
			if got.Result != tc.want || got.Reason != tc.reason {
				t.Errorf("got %s %q, want %s %q", got.Result, got.Reason, tc.want, tc.reason)
			}
		})
	}
}

// What cannot be looked at never passes, and is a failure only if it is known
// to be another than the run recorded.
func TestWithoutContent(t *testing.T) {
	for reason, want := range map[policy.Reason]policy.Result{
		policy.ContentUnavailable:   policy.Skipped,
		policy.SignatureUnavailable: policy.Skipped,
		policy.Inline:               policy.Skipped,
		policy.DigestMismatch:       policy.Failed,
	} {
		report := assessed(t, verdicts{"": outcome(policy.Passed, "")}, ours(""), nil, item(dependencies.Task, "a", without(reason)))
		if got := report.Records[0]; got.Result != want || got.Reason != reason || got.KeyID != "" || report.Result() != want {
			t.Errorf("%s: got %s %q, want %s", reason, got.Result, got.Reason, want)
		}
	}
}

// A key of ours that no policy trusts is another mistake than a signature over
// another content.
func TestKeyUnknown(t *testing.T) {
	verifier := verdicts{}
	for _, signature := range []string{"", encoded([]byte("ours")), encoded([]byte("theirs")), "no base64", encoded([]byte("trusted"))} {
		verifier[signature] = outcome(policy.Failed, policy.SignatureInvalid)
	}
	verifier[""] = outcome(policy.Failed, policy.Unsigned)
	verifier[encoded([]byte("trusted"))] = outcome(policy.Passed, "")
	for name, tc := range map[string]struct {
		signatures []string
		want       policy.Reason
		keyID      string
	}{
		"of ours":                     {[]string{encoded([]byte("ours"))}, policy.KeyUnknown, key},
		"of others":                   {[]string{encoded([]byte("theirs"))}, policy.SignatureInvalid, ""},
		"no base64":                   {[]string{"no base64"}, policy.SignatureInvalid, ""},
		"of ours on the run only":     {[]string{"", encoded([]byte("ours"))}, policy.Unsigned, ""},
		"of ours, and a trusted one":  {[]string{encoded([]byte("ours")), encoded([]byte("trusted"))}, "", key},
		"of others, ours on the run":  {[]string{encoded([]byte("theirs")), encoded([]byte("ours"))}, policy.SignatureInvalid, ""},
		"unsigned, garbage elsewhere": {[]string{"", "no base64"}, policy.Unsigned, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := assessed(t, verifier, ours("ours"), nil, item(dependencies.Task, "a", candidates(tc.signatures...))).Records[0]
			if got.Reason != tc.want || got.KeyID != tc.keyID {
				t.Errorf("got %q by %q, want %q by %q", got.Reason, got.KeyID, tc.want, tc.keyID)
			}
		})
	}
}

func in(mode policy.Mode, v policy.Verdict) policy.Verdict {
	v.Mode = mode
	return v
}

func TestAgreementOnATaskRun(t *testing.T) {
	yes, no := condition(corev1.ConditionTrue), condition(corev1.ConditionFalse)
	passed, failed := outcome(policy.Passed, ""), outcome(policy.Failed, policy.Unsigned)
	noPolicy := outcome(policy.Skipped, policy.NoPolicy)
	for name, tc := range map[string]struct {
		verdict   policy.Verdict
		condition *apis.Condition
		want      Agreement
	}{
		"passed, True":                    {passed, yes, Agrees},
		"passed, False":                   {passed, no, Differs},
		"passed, absent":                  {passed, nil, Differs},
		"failed, True":                    {failed, yes, Differs},
		"failed, False":                   {failed, no, Agrees},
		"failed, absent":                  {failed, nil, Differs},
		"failed under warn, False":        {in(policy.Warn, failed), no, Agrees},
		"failed under warn, True":         {in(policy.Warn, failed), yes, Differs},
		"no policy, absent":               {in(policy.Skip, noPolicy), nil, Agrees},
		"no policy, True":                 {in(policy.Skip, noPolicy), yes, Differs},
		"no policy, which warns, False":   {in(policy.Warn, noPolicy), no, Agrees},
		"no policy, which warns, absent":  {in(policy.Warn, noPolicy), nil, Differs},
		"no policy, which fails, False":   {in(policy.Enforce, noPolicy), no, Agrees},
		"no policy, which fails, absent":  {in(policy.Enforce, noPolicy), nil, Differs},
		"no policy, which fails, Unknown": {in(policy.Enforce, noPolicy), condition(corev1.ConditionUnknown), Differs},
	} {
		t.Run(name, func(t *testing.T) {
			report := assessed(t, verdicts{"own": tc.verdict}, ours(""), tc.condition, item(dependencies.Task, "build", verified(tc.condition)))
			if report.Agreement != tc.want {
				t.Errorf("got %s, want %s", report.Agreement, tc.want)
			}
			if explained := strings.Contains(strings.Join(report.Differing, " "), "Task build"); explained != (tc.want == Differs) {
				t.Errorf("the explanation is %q", report.Differing)
			}
		})
	}
}

// A PipelineRun has the condition of the resource that Tekton checked last.
func TestAgreementOnAPipelineRun(t *testing.T) {
	yes, no := condition(corev1.ConditionTrue), condition(corev1.ConditionFalse)
	verifier := verdicts{"good": outcome(policy.Passed, ""), "": in(policy.Warn, outcome(policy.Failed, policy.Unsigned))}
	good, unsigned := candidates("good"), candidates("")
	for name, tc := range map[string]struct {
		pipeline, task func(*dependencies.Item)
		condition      *apis.Condition // of the PipelineRun
		ofTask         *apis.Condition
		want           Agreement
	}{
		"all passed":                            {good, good, yes, yes, Agrees},
		"the task failed, which came last":      {good, unsigned, no, no, Agrees},
		"the pipeline failed, the task last":    {unsigned, good, yes, yes, Agrees},
		"the task failed and Tekton passed it":  {good, unsigned, yes, yes, Differs},
		"all passed and Tekton failed one":      {good, good, no, yes, Differs},
		"all passed and Tekton verified none":   {good, good, nil, yes, Differs},
		"all passed, the task has no condition": {good, good, yes, nil, Differs},
	} {
		t.Run(name, func(t *testing.T) {
			report := assessed(t, verifier, ours(""), tc.condition,
				item(dependencies.Pipeline, "p", tc.pipeline), item(dependencies.PipelineTask, "t", tc.task, verified(tc.ofTask)))
			if report.Agreement != tc.want {
				t.Errorf("got %s, want %s: %v", report.Agreement, tc.want, report.Differing)
			}
		})
	}
}

// What Tekton checked and did not run may be what its condition is of.
func TestTasksThatDidNotRun(t *testing.T) {
	verifier := verdicts{"own": outcome(policy.Passed, "")}
	skipped := func(i *dependencies.Item) { i.NotRun = []string{"skipped"} }
	for name, tc := range map[string]struct {
		items []dependencies.Item
		want  Agreement
	}{
		"the pipeline alone": {[]dependencies.Item{item(dependencies.Pipeline, "p", skipped)}, NotComparable},
		"and a TaskRun that agrees": {[]dependencies.Item{item(dependencies.Pipeline, "p", skipped),
			item(dependencies.PipelineTask, "t", verified(condition(corev1.ConditionTrue)))}, Agrees},
		"and a TaskRun that does not": {[]dependencies.Item{item(dependencies.Pipeline, "p", skipped),
			item(dependencies.PipelineTask, "t", verified(condition(corev1.ConditionFalse)))}, Differs},
		"all did run": {[]dependencies.Item{item(dependencies.Pipeline, "p")}, Differs},
	} {
		if got := assessed(t, verifier, ours(""), condition(corev1.ConditionFalse), tc.items...); got.Agreement != tc.want {
			t.Errorf("%s: got %s, want %s", name, got.Agreement, tc.want)
		}
	}
}

// Tekton verifies neither local references nor StepActions.
func TestNotComparable(t *testing.T) {
	verifier := verdicts{"own": outcome(policy.Passed, "")}
	for name, items := range map[string][]dependencies.Item{
		"nothing":     nil,
		"local":       {item(dependencies.Task, "a", notReferenced), item(dependencies.Pipeline, "p", notReferenced)},
		"StepActions": {item(dependencies.StepAction, "a")},
		"no content":  {item(dependencies.Task, "a", without(policy.ContentUnavailable))},
		"inline":      {item(dependencies.Task, "a", without(policy.Inline), notReferenced)},
	} {
		if got := assessed(t, verifier, ours(""), nil, items...); got.Agreement != NotComparable {
			t.Errorf("%s: got %s: %v", name, got.Agreement, got.Differing)
		}
	}
	both := []dependencies.Item{item(dependencies.Task, "a", notReferenced), item(dependencies.Task, "b", verified(condition(corev1.ConditionTrue)))}
	if got := assessed(t, verifier, ours(""), nil, both...); got.Agreement != Agrees {
		t.Errorf("what can be compared is not: %s", got.Agreement)
	}
}

func TestTektonsConditionIsQuoted(t *testing.T) {
	for want, given := range map[string]*apis.Condition{
		"True": condition(corev1.ConditionTrue), "False": condition(corev1.ConditionFalse), "Absent": nil,
	} {
		report := assessed(t, verdicts{}, ours(""), given)
		if report.TektonStatus != want || given != nil && report.TektonMessage != given.Message || !report.CheckedAt.Equal(now) {
			t.Errorf("got %q %q at %s, want %q", report.TektonStatus, report.TektonMessage, report.CheckedAt, want)
		}
	}
}
