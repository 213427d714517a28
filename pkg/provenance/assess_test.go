package provenance

import (
	"encoding/base64"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/evidence"
	"github.com/trusted-resources/chains-extension/pkg/verify"
)

var encoded = base64.StdEncoding.EncodeToString

func assessed(t *testing.T, v Verifier, keys Keys, condition *apis.Condition, items ...evidence.Item) Report {
	t.Helper()
	return Assess(t.Context(), v, keys, "ns", items, condition, now)
}

// The signature of the content itself comes first, as for Tekton; others count
// only if they verify.
func TestWhichSignatureDecides(t *testing.T) {
	passed, noPolicy := outcome(verify.Passed, ""), outcome(verify.Skipped, verify.NoPolicy)
	unsigned, invalid := outcome(verify.Failed, verify.Unsigned), outcome(verify.Failed, verify.SignatureInvalid)
	verifier := verdicts{"": unsigned, "good": passed, "forged": invalid, "another": invalid}
	for name, tc := range map[string]struct {
		verifier   verdicts
		signatures []string
		want       verify.Result
		reason     verify.Reason
	}{
		"its own":                                  {verifier, []string{"good"}, verify.Passed, ""},
		"its own is invalid":                       {verifier, []string{"forged"}, verify.Failed, verify.SignatureInvalid},
		"none":                                     {verifier, []string{""}, verify.Failed, verify.Unsigned},
		"none, a valid one elsewhere":              {verifier, []string{"", "good"}, verify.Passed, ""},
		"none, a forged one on the run":            {verifier, []string{"", "forged"}, verify.Failed, verify.Unsigned},
		"its own, a forged one on the run":         {verifier, []string{"good", "forged"}, verify.Passed, ""},
		"its own is invalid, a valid one on it":    {verifier, []string{"forged", "good"}, verify.Passed, ""},
		"all are invalid":                          {verifier, []string{"forged", "another", ""}, verify.Failed, verify.SignatureInvalid},
		"a valid one after many":                   {verifier, []string{"", "forged", "another", "good"}, verify.Passed, ""},
		"no policy matches":                        {verdicts{"": noPolicy, "good": noPolicy}, []string{"", "good"}, verify.Skipped, verify.NoPolicy},
		"policies cannot be read":                  {verdicts{}, []string{"good"}, verify.Skipped, verify.PolicyInvalid},
		"policies cannot be read any more":         {verdicts{"": unsigned}, []string{"", "good"}, verify.Skipped, verify.PolicyInvalid},
		"a key cannot be read, and none is needed": {verdicts{"": outcome(verify.Failed, verify.KeyUnavailable), "good": passed}, []string{"", "good"}, verify.Passed, ""},
		"a key cannot be read":                     {verdicts{"good": outcome(verify.Failed, verify.KeyUnavailable)}, []string{"good"}, verify.Failed, verify.KeyUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			got := assessed(t, tc.verifier, ours(""), nil, item(evidence.Task, "a", candidates(tc.signatures...))).Records[0]
			if got.Result != tc.want || got.Reason != tc.reason {
				t.Errorf("got %s %q, want %s %q", got.Result, got.Reason, tc.want, tc.reason)
			}
		})
	}
}

// What cannot be looked at never passes, and is a failure only if it is known
// to be another than the run recorded.
func TestWithoutContent(t *testing.T) {
	for reason, want := range map[verify.Reason]verify.Result{
		verify.ContentUnavailable:   verify.Skipped,
		verify.SignatureUnavailable: verify.Skipped,
		verify.Inline:               verify.Skipped,
		verify.DigestMismatch:       verify.Failed,
	} {
		report := assessed(t, verdicts{"": outcome(verify.Passed, "")}, ours(""), nil, item(evidence.Task, "a", without(reason)))
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
		verifier[signature] = outcome(verify.Failed, verify.SignatureInvalid)
	}
	verifier[""] = outcome(verify.Failed, verify.Unsigned)
	verifier[encoded([]byte("trusted"))] = outcome(verify.Passed, "")
	for name, tc := range map[string]struct {
		signatures []string
		want       verify.Reason
		keyID      string
	}{
		"of ours":                     {[]string{encoded([]byte("ours"))}, verify.KeyUnknown, key},
		"of others":                   {[]string{encoded([]byte("theirs"))}, verify.SignatureInvalid, ""},
		"no base64":                   {[]string{"no base64"}, verify.SignatureInvalid, ""},
		"of ours on the run only":     {[]string{"", encoded([]byte("ours"))}, verify.Unsigned, ""},
		"of ours, and a trusted one":  {[]string{encoded([]byte("ours")), encoded([]byte("trusted"))}, "", key},
		"of others, ours on the run":  {[]string{encoded([]byte("theirs")), encoded([]byte("ours"))}, verify.SignatureInvalid, ""},
		"unsigned, garbage elsewhere": {[]string{"", "no base64"}, verify.Unsigned, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := assessed(t, verifier, ours("ours"), nil, item(evidence.Task, "a", candidates(tc.signatures...))).Records[0]
			if got.Reason != tc.want || got.KeyID != tc.keyID {
				t.Errorf("got %q by %q, want %q by %q", got.Reason, got.KeyID, tc.want, tc.keyID)
			}
		})
	}
}

func in(mode verify.Mode, v verify.Verdict) verify.Verdict {
	v.Mode = mode
	return v
}

func TestAgreementOnATaskRun(t *testing.T) {
	yes, no := condition(corev1.ConditionTrue), condition(corev1.ConditionFalse)
	passed, failed := outcome(verify.Passed, ""), outcome(verify.Failed, verify.Unsigned)
	noPolicy := outcome(verify.Skipped, verify.NoPolicy)
	for name, tc := range map[string]struct {
		verdict   verify.Verdict
		condition *apis.Condition
		want      Agreement
	}{
		"passed, True":                    {passed, yes, Agrees},
		"passed, False":                   {passed, no, Differs},
		"passed, absent":                  {passed, nil, Differs},
		"failed, True":                    {failed, yes, Differs},
		"failed, False":                   {failed, no, Agrees},
		"failed, absent":                  {failed, nil, Differs},
		"failed under warn, False":        {in(verify.Warn, failed), no, Agrees},
		"failed under warn, True":         {in(verify.Warn, failed), yes, Differs},
		"no policy, absent":               {in(verify.Skip, noPolicy), nil, Agrees},
		"no policy, True":                 {in(verify.Skip, noPolicy), yes, Differs},
		"no policy, which warns, False":   {in(verify.Warn, noPolicy), no, Agrees},
		"no policy, which warns, absent":  {in(verify.Warn, noPolicy), nil, Differs},
		"no policy, which fails, False":   {in(verify.Enforce, noPolicy), no, Agrees},
		"no policy, which fails, absent":  {in(verify.Enforce, noPolicy), nil, Differs},
		"no policy, which fails, Unknown": {in(verify.Enforce, noPolicy), condition(corev1.ConditionUnknown), Differs},
	} {
		t.Run(name, func(t *testing.T) {
			report := assessed(t, verdicts{"own": tc.verdict}, ours(""), tc.condition, item(evidence.Task, "build", verified(tc.condition)))
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
	verifier := verdicts{"good": outcome(verify.Passed, ""), "": in(verify.Warn, outcome(verify.Failed, verify.Unsigned))}
	good, unsigned := candidates("good"), candidates("")
	for name, tc := range map[string]struct {
		pipeline, task func(*evidence.Item)
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
				item(evidence.Pipeline, "p", tc.pipeline), item(evidence.PipelineTask, "t", tc.task, verified(tc.ofTask)))
			if report.Agreement != tc.want {
				t.Errorf("got %s, want %s: %v", report.Agreement, tc.want, report.Differing)
			}
		})
	}
}

// What Tekton checked and did not run may be what its condition is of.
func TestTasksThatDidNotRun(t *testing.T) {
	verifier := verdicts{"own": outcome(verify.Passed, "")}
	skipped := func(i *evidence.Item) { i.NotRun = []string{"skipped"} }
	for name, tc := range map[string]struct {
		items []evidence.Item
		want  Agreement
	}{
		"the pipeline alone": {[]evidence.Item{item(evidence.Pipeline, "p", skipped)}, NotComparable},
		"and a TaskRun that agrees": {[]evidence.Item{item(evidence.Pipeline, "p", skipped),
			item(evidence.PipelineTask, "t", verified(condition(corev1.ConditionTrue)))}, Agrees},
		"and a TaskRun that does not": {[]evidence.Item{item(evidence.Pipeline, "p", skipped),
			item(evidence.PipelineTask, "t", verified(condition(corev1.ConditionFalse)))}, Differs},
		"all did run": {[]evidence.Item{item(evidence.Pipeline, "p")}, Differs},
	} {
		if got := assessed(t, verifier, ours(""), condition(corev1.ConditionFalse), tc.items...); got.Agreement != tc.want {
			t.Errorf("%s: got %s, want %s", name, got.Agreement, tc.want)
		}
	}
}

// Tekton verifies neither local references nor StepActions.
func TestNotComparable(t *testing.T) {
	verifier := verdicts{"own": outcome(verify.Passed, "")}
	for name, items := range map[string][]evidence.Item{
		"nothing":     nil,
		"local":       {item(evidence.Task, "a", notReferenced), item(evidence.Pipeline, "p", notReferenced)},
		"StepActions": {item(evidence.StepAction, "a")},
		"no content":  {item(evidence.Task, "a", without(verify.ContentUnavailable))},
		"inline":      {item(evidence.Task, "a", without(verify.Inline), notReferenced)},
	} {
		if got := assessed(t, verifier, ours(""), nil, items...); got.Agreement != NotComparable {
			t.Errorf("%s: got %s: %v", name, got.Agreement, got.Differing)
		}
	}
	both := []evidence.Item{item(evidence.Task, "a", notReferenced), item(evidence.Task, "b", verified(condition(corev1.ConditionTrue)))}
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
