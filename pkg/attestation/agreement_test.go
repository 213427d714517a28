// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// in returns a verdict of a policy with that mode.
func in(mode policy.Mode, v policy.Verdict) policy.Verdict {
	v.Mode = mode
	return v
}

func TestNewReport_ComparesWithConditionOfTaskRun(t *testing.T) {
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
			report := reported(t, verdicts{"own": tc.verdict}, tc.condition, dependency(dependencies.Task, "build", verified(tc.condition)))
			if report.Agreement != tc.want {
				t.Errorf("got %s, want %s", report.Agreement, tc.want)
			}
			if explained := strings.Contains(strings.Join(report.Differences, " "), "Task build"); explained != (tc.want == Differs) {
				t.Errorf("the explanation is %q", report.Differences)
			}
		})
	}
}

// The condition of a PipelineRun is about the resource that Tekton verified last.
func TestNewReport_ComparesWithConditionOfPipelineRun(t *testing.T) {
	yes, no := condition(corev1.ConditionTrue), condition(corev1.ConditionFalse)
	verifier := verdicts{"good": outcome(policy.Passed, ""), "": in(policy.Warn, outcome(policy.Failed, policy.Unsigned))}
	good, unsigned := candidates("good"), candidates("")
	for name, tc := range map[string]struct {
		pipeline, task func(*dependencies.Dependency)
		condition      *apis.Condition // of the PipelineRun
		ofTask         *apis.Condition
		want           Agreement
	}{
		"all passed":                             {good, good, yes, yes, Agrees},
		"the task failed and was verified last":  {good, unsigned, no, no, Agrees},
		"the pipeline failed, the task was last": {unsigned, good, yes, yes, Agrees},
		"the task failed and Tekton passed it":   {good, unsigned, yes, yes, Differs},
		"all passed and Tekton failed one":       {good, good, no, yes, Differs},
		"all passed and Tekton verified none":    {good, good, nil, yes, Differs},
		"all passed, the task has no condition":  {good, good, yes, nil, Differs},
	} {
		t.Run(name, func(t *testing.T) {
			report := reported(t, verifier, tc.condition,
				dependency(dependencies.Pipeline, "p", tc.pipeline), dependency(dependencies.PipelineTask, "t", tc.task, verified(tc.ofTask)))
			if report.Agreement != tc.want {
				t.Errorf("got %s, want %s: %v", report.Agreement, tc.want, report.Differences)
			}
		})
	}
}

// The condition of a PipelineRun may be about a resource that did not run.
func TestNewReport_ComparesNoPipelineWhoseTasksDidNotAllRun(t *testing.T) {
	verifier := verdicts{"own": outcome(policy.Passed, "")}
	skipped := func(i *dependencies.Dependency) { i.NotRun = []string{"skipped"} }
	for name, tc := range map[string]struct {
		items []dependencies.Dependency
		want  Agreement
	}{
		"the pipeline only": {[]dependencies.Dependency{dependency(dependencies.Pipeline, "p", skipped)}, NotComparable},
		"a TaskRun agrees": {[]dependencies.Dependency{dependency(dependencies.Pipeline, "p", skipped),
			dependency(dependencies.PipelineTask, "t", verified(condition(corev1.ConditionTrue)))}, Agrees},
		"a TaskRun differs": {[]dependencies.Dependency{dependency(dependencies.Pipeline, "p", skipped),
			dependency(dependencies.PipelineTask, "t", verified(condition(corev1.ConditionFalse)))}, Differs},
		"all tasks ran": {[]dependencies.Dependency{dependency(dependencies.Pipeline, "p")}, Differs},
	} {
		if got := reported(t, verifier, condition(corev1.ConditionFalse), tc.items...); got.Agreement != tc.want {
			t.Errorf("%s: got %s, want %s", name, got.Agreement, tc.want)
		}
	}
}

// Tekton verifies neither local references nor StepActions.
func TestNewReport_IsNotComparableWhereTektonVerifiesNothing(t *testing.T) {
	verifier := verdicts{"own": outcome(policy.Passed, "")}
	for name, items := range map[string][]dependencies.Dependency{
		"no dependency": nil,
		"local":         {dependency(dependencies.Task, "a", local), dependency(dependencies.Pipeline, "p", local)},
		"StepActions":   {dependency(dependencies.StepAction, "a")},
		"no content":    {dependency(dependencies.Task, "a", without(policy.ContentUnavailable))},
		"inline":        {dependency(dependencies.Task, "a", without(policy.Inline), local)},
	} {
		if got := reported(t, verifier, nil, items...); got.Agreement != NotComparable {
			t.Errorf("%s: got %s: %v", name, got.Agreement, got.Differences)
		}
	}
	both := []dependencies.Dependency{dependency(dependencies.Task, "a", local), dependency(dependencies.Task, "b", verified(condition(corev1.ConditionTrue)))}
	if got := reported(t, verifier, nil, both...); got.Agreement != Agrees {
		t.Errorf("one of two can be compared: got %s", got.Agreement)
	}
}

// Tekton does not compare the namespace of the content with that of its source.
func TestNewReport_DiffersIfTektonPassedContentThatFailsUnseen(t *testing.T) {
	for _, reason := range []policy.Reason{policy.NamespaceMismatch, policy.DigestMismatch} {
		copied := dependency(dependencies.Task, "build", without(reason), verified(condition(corev1.ConditionTrue)))
		if got := reported(t, verdicts{}, condition(corev1.ConditionTrue), copied); got.Agreement != Differs {
			t.Errorf("Task, %s: got %s", reason, got.Agreement)
		}
		pipeline := dependency(dependencies.Pipeline, "p", without(reason))
		if got := reported(t, verdicts{}, condition(corev1.ConditionTrue), pipeline); got.Agreement != Differs {
			t.Errorf("Pipeline, %s: got %s", reason, got.Agreement)
		}
		refused := dependency(dependencies.Task, "build", without(reason), verified(condition(corev1.ConditionFalse)))
		if got := reported(t, verdicts{}, condition(corev1.ConditionFalse), refused); got.Agreement != Agrees {
			t.Errorf("Task that Tekton refused, %s: got %s", reason, got.Agreement)
		}
	}
}

func TestNewReport_QuotesCondition(t *testing.T) {
	for want, given := range map[string]*apis.Condition{
		"True": condition(corev1.ConditionTrue), "False": condition(corev1.ConditionFalse), "Absent": nil,
	} {
		report := reported(t, verdicts{}, given)
		if report.TektonStatus != want || given != nil && report.TektonMessage != given.Message || !report.CheckedAt.Equal(now) {
			t.Errorf("got %q %q at %s, want %q", report.TektonStatus, report.TektonMessage, report.CheckedAt, want)
		}
	}
}
