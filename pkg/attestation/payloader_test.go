// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/tektoncd/chains/pkg/chains/formats"
	"github.com/tektoncd/chains/pkg/chains/objects"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// always returns a ReportFunc that returns this report for each run.
func always(report Report) ReportFunc {
	return func(context.Context, any) (Report, bool) { return report, true }
}

// never is a ReportFunc without a report.
func never(context.Context, any) (Report, bool) { return Report{}, false }

// register registers for the duration of a test: the process has one registry.
func register(t *testing.T, report ReportFunc) {
	t.Helper()
	Register(report)
	t.Cleanup(func() {
		for format, original := range Formats {
			formats.RegisterPayloader(format, original)
		}
	})
}

// quiet returns a context whose logger writes nothing.
func quiet(t *testing.T) context.Context {
	t.Helper()
	return logging.WithLogger(t.Context(), zap.NewNop().Sugar())
}

func chainsConfig(deep bool) chainsconfig.Config {
	cfg := chainsconfig.Config{Builder: chainsconfig.BuilderConfig{ID: "builder"}}
	cfg.BuildDefinition.BuildType = "https://tekton.dev/chains/v2/slsa"
	cfg.Artifacts.PipelineRuns.DeepInspectionEnabled = deep
	return cfg
}

// created returns the statement that a payloader creates for a run.
func created(t *testing.T, payloader formats.Payloader, run any) (*intoto.Statement, error) {
	t.Helper()
	payload, err := payloader.CreatePayload(quiet(t), run)
	if err != nil {
		return nil, err
	}
	return statementOf(payload), nil
}

// both returns Chains' own payloader of a format and the registered one.
func both(t *testing.T, format chainsconfig.PayloadType, deep bool) (original, registered formats.Payloader) {
	t.Helper()
	return must(Formats[format](chainsConfig(deep))), must(formats.GetPayloader(format, chainsConfig(deep)))
}

// eachRun runs a test for each run that Chains tests with, in each format.
func eachRun(t *testing.T, test func(t *testing.T, original, registered formats.Payloader, run any)) {
	t.Helper()
	count := 0
	for format := range Formats {
		for _, deep := range []bool{false, true} {
			original, registered := both(t, format, deep)
			for name, run := range chainsRuns(t, format) {
				count++
				t.Run(fmt.Sprintf("%s deep=%v %s", format, deep, name), func(t *testing.T) { test(t, original, registered, run) })
			}
		}
	}
	if count < 4*len(Formats) {
		t.Errorf("only %d runs were tried", count)
	}
}

func TestCreatePayload_WithoutReportIsThatOfChains(t *testing.T) {
	register(t, never)
	eachRun(t, func(t *testing.T, original, registered formats.Payloader, run any) {
		want, wantErr := created(t, original, run)
		got, err := created(t, registered, run)
		if wantErr != nil || err != nil {
			t.Fatalf("got %v, want %v", err, wantErr)
		}
		if !reflect.DeepEqual(decoded(t, got), decoded(t, want)) {
			t.Errorf("got %v, want %v", decoded(t, got), decoded(t, want))
		}
	})
}

func TestCreatePayload_AddsOnlyTheStatus(t *testing.T) {
	report := reportOf(
		record(dependency(dependencies.Pipeline, "a"), outcome(policy.Passed, "")),
		record(dependency(dependencies.Task, "b", from(localSource), local), outcome(policy.Passed, "")),
		record(dependency(dependencies.StepAction, "c"), outcome(policy.Failed, policy.Unsigned)),
	)
	report.Records[0].Source = localSource
	register(t, always(report))
	eachRun(t, func(t *testing.T, original, registered formats.Payloader, run any) {
		want, wantErr := created(t, original, run)
		got, err := created(t, registered, run)
		if wantErr != nil || err != nil {
			t.Fatalf("got %v, want %v", err, wantErr)
		}
		if reflect.DeepEqual(decoded(t, got), decoded(t, want)) {
			t.Error("nothing was added")
		}
		if !reflect.DeepEqual(decoded(t, withoutStatus(t, got)), decoded(t, want)) {
			t.Errorf("got %v, want %v", decoded(t, got), decoded(t, want))
		}
	})
}

func TestRegister_KeepsOtherMethodsOfPayloader(t *testing.T) {
	register(t, never)
	eachRun(t, func(t *testing.T, original, registered formats.Payloader, run any) {
		if registered.Type() != original.Type() || registered.Wrap() != original.Wrap() {
			t.Errorf("got %s %v", registered.Type(), registered.Wrap())
		}
		want, wantErr := original.RetrieveAllArtifactURIs(quiet(t), run)
		got, err := registered.RetrieveAllArtifactURIs(quiet(t), run)
		if !reflect.DeepEqual(got, want) || (err == nil) != (wantErr == nil) {
			t.Errorf("got %v and %v, want %v and %v", got, err, want, wantErr)
		}
	})
}

// refusedTaskRun returns a TaskRun that Tekton refused before it had a Pod. Its
// status lists the steps.
func refusedTaskRun() *v1.TaskRun {
	tr := &v1.TaskRun{}
	tr.Namespace, tr.Name = "ns", "run"
	tr.Spec.TaskRef = &v1.TaskRef{Name: "build"}
	tr.Status.Steps = []v1.StepState{{Name: "step"}}
	return tr
}

func refusedPipelineRun() *objects.PipelineRunObjectV1 {
	pr := &v1.PipelineRun{}
	pr.Namespace, pr.Name = "ns", "run"
	pr.Status.PipelineSpec = &v1.PipelineSpec{Tasks: []v1.PipelineTask{{Name: "build"}}}
	pr.Status.ChildReferences = []v1.ChildStatusReference{{Name: "run", PipelineTaskName: "build"}}
	pr.Status.CompletionTime = &metav1.Time{}
	tr := refusedTaskRun()
	tr.Labels = map[string]string{"tekton.dev/pipelineTask": "build"}
	tr.Status.CompletionTime = pr.Status.CompletionTime
	run := objects.NewPipelineRunObjectV1(pr)
	run.AppendTaskRun(tr)
	return run
}

func TestCreatePayload_AttestsToRefusedRun(t *testing.T) {
	report := reportOf(record(dependency(dependencies.Task, "build"), outcome(policy.Failed, policy.Unsigned)))
	register(t, always(report))
	for format := range Formats {
		original, registered := both(t, format, false)
		for name, run := range map[string]any{"TaskRun": objects.NewTaskRunObjectV1(refusedTaskRun()), "PipelineRun": refusedPipelineRun()} {
			t.Run(fmt.Sprint(format, name), func(t *testing.T) {
				if _, err := created(t, original, run); err == nil {
					t.Fatal("Chains makes an attestation by itself")
				}
				got, err := created(t, registered, run)
				if err != nil {
					t.Fatal(err)
				}
				if result := summaryOf(t, parsed(t, got))["result"]; result != "FAILED" {
					t.Errorf("got %v", result)
				}
			})
		}
	}
}

func TestWithoutUnstartedSteps_DoesNotChangeTheRun(t *testing.T) {
	tr, pipelineRun := refusedTaskRun(), refusedPipelineRun()
	withoutUnstartedSteps(objects.NewTaskRunObjectV1(tr))
	withoutUnstartedSteps(pipelineRun)
	if len(tr.Status.Steps) != 1 || len(pipelineRun.GetTaskRuns()[0].Status.Steps) != 1 {
		t.Error("the steps of the given run were removed")
	}
	steps := func() int {
		return len(withoutUnstartedSteps(objects.NewTaskRunObjectV1(tr)).(*objects.TaskRunObjectV1).Status.Steps)
	}
	tr.Status.PodName = "pod" // that the gate held
	if steps() != 0 {
		t.Error("the steps of a run whose Pod never started are left")
	}
	tr.Status.Steps = append(tr.Status.Steps, v1.StepState{ImageID: "alpine@sha256:" + strings.Repeat("0", 64)})
	if steps() != 2 {
		t.Error("the steps of a run that started were removed")
	}
}

func TestGateOf_NamesTheWorst(t *testing.T) {
	at := func(decision GateDecision, second int64) Gate {
		return Gate{Decision: decision, At: time.Unix(second, 0)}
	}
	released, refused, unknown := at(GateReleased, 3), at(GateRefused, 2), Gate{Decision: GateUnknown}
	for name, tc := range map[string]struct {
		taskRuns []Gate
		want     Gate
	}{
		"no TaskRuns":   {nil, Gate{Decision: GateNotHeld}},
		"all released":  {[]Gate{released, at(GateReleased, 5), at(GateReleased, 4)}, at(GateReleased, 5)},
		"one refused":   {[]Gate{released, unknown, refused, {Decision: GateNotHeld}}, refused},
		"one not known": {[]Gate{released, unknown, at(GateOpened, 9)}, unknown},
		"one not held":  {[]Gate{released, {Decision: GateNotHeld}}, Gate{Decision: GateNotHeld}},
		"one opened":    {[]Gate{at(GateOpened, 1), released}, at(GateOpened, 1)},
	} {
		if got := GateOf(tc.taskRuns); got.Decision != tc.want.Decision || !got.At.Equal(tc.want.At) {
			t.Errorf("%s: got %+v, want %+v", name, got, tc.want)
		}
	}
}

func TestCreatePayload_ReturnsErrorOfChains(t *testing.T) {
	report := reportOf()
	for name, reportFunc := range map[string]ReportFunc{"with a report": always(report), "without": never} {
		register(t, reportFunc)
		for format := range Formats {
			original, registered := both(t, format, false)
			_, want := created(t, original, "no run")
			if _, err := created(t, registered, "no run"); err == nil || err.Error() != want.Error() {
				t.Errorf("%s, %s: got %v, want %v", format, name, err, want)
			}
		}
	}
}

// broken is a payloader with one answer.
type broken struct {
	formats.Payloader
	payload any
	err     error
}

func (b broken) CreatePayload(context.Context, any) (any, error) { return b.payload, b.err }

var errBroken = errors.New("broken")

// An attestation without the status is better than none.
func TestCreatePayload_ReturnsPayloadThatCannotBeAnnotated(t *testing.T) {
	report := reportOf()
	for name, payload := range map[string]any{"no statement": "payload", "no provenance": &intoto.Statement{}, "nothing": nil} {
		got, err := annotatingPayloader{broken{payload: payload}, always(report)}.CreatePayload(quiet(t), "run")
		if err != nil || !reflect.DeepEqual(got, payload) {
			t.Errorf("%s: got %v and %v", name, got, err)
		}
	}
	if _, err := (annotatingPayloader{broken{err: errBroken}, always(report)}).CreatePayload(quiet(t), "run"); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
}

// chainsRuns returns the runs that Chains tests a format with.
func chainsRuns(t *testing.T, format chainsconfig.PayloadType) map[string]any {
	t.Helper()
	dir := must(exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/tektoncd/chains").Output())
	files := must(filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "pkg/chains/formats/slsa/testdata",
		strings.ReplaceAll(string(format), "/", "-"), "*.json")))
	runs := map[string]any{}
	taskRuns := map[string]*v1.TaskRun{}
	for _, file := range files {
		if name := filepath.Base(file); strings.HasPrefix(name, "taskrun") {
			tr := readRun[v1.TaskRun](t, file)
			taskRuns[tr.Name] = tr
			runs[name] = objects.NewTaskRunObjectV1(tr)
		}
	}
	for _, file := range files {
		if name := filepath.Base(file); strings.HasPrefix(name, "pipelinerun") {
			run := objects.NewPipelineRunObjectV1(readRun[v1.PipelineRun](t, file))
			for _, child := range run.Status.ChildReferences {
				if tr := taskRuns[child.Name]; tr != nil {
					run.AppendTaskRun(tr)
				}
			}
			runs[name] = run
		}
	}
	return runs
}

func readRun[Run any](t *testing.T, file string) *Run {
	t.Helper()
	run := new(Run)
	if err := json.Unmarshal(must(os.ReadFile(file)), run); err != nil { //nolint:gosec // a file of a module
		t.Fatal(err)
	}
	return run
}
