// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// holders have the right to sign. An error stands for an API server that does not answer.
type holders struct {
	names string
	asked int
	err   error
}

func (h *holders) MaySign(_ context.Context, request *admissionv1.AdmissionRequest) (bool, error) {
	h.asked++
	return strings.Contains(h.names, request.UserInfo.Username), h.err
}

type silent struct{}

func (silent) Emit(context.Context, observe.Fact) {}

func newMutator(rights Rights) *mutator {
	return &mutator{config: func() *config.Config { return &config.Config{Requester: config.RequesterRequired} }, rights: rights, emitter: silent{}}
}

// requestOf returns a request for a kind of Tekton. before is empty if the object is
// created.
func requestOf(version, kind, user, before, after string) *admissionv1.AdmissionRequest {
	r := &admissionv1.AdmissionRequest{
		Kind:      metav1.GroupVersionKind{Group: "tekton.dev", Version: version, Kind: kind},
		Resource:  metav1.GroupVersionResource{Group: "tekton.dev", Version: version, Resource: strings.ToLower(kind) + "s"},
		Namespace: "ns", Name: "x", Operation: admissionv1.Create,
		UserInfo: authenticationv1.UserInfo{Username: user},
		Object:   runtime.RawExtension{Raw: []byte(after)},
	}
	if before != "" {
		r.Operation, r.OldObject.Raw = admissionv1.Update, []byte(before)
	}
	return r
}

func taskIn(annotations, spec string) string {
	return fmt.Sprintf(`{"metadata":{"name":"x","namespace":"ns","annotations":%s},"spec":%s}`, annotations, spec)
}

const (
	stamped  = `{"trustedresources.tekton.dev/requested-by":"alice"}`
	refusal  = `{"trustedresources.tekton.dev/not-authorized":"bob"}`
	original = `{"steps":[{"name":"s","script":"echo"}],"params":[{"name":"p","type":"string"}]}`
	same     = `{"params":[{"name":"p"}],"steps":[{"name":"s","script":"echo"}]}` // without the default
	changed  = `{"steps":[{"name":"s","script":"evil"}]}`
)

func TestAdmit_RecordsTheRequester(t *testing.T) {
	for name, tc := range map[string]struct {
		request *admissionv1.AdmissionRequest
		patch   string
	}{
		"created by a holder, no annotations": {requestOf("v1", "Task", "alice", "", `{"spec":`+original+`}`),
			`[{"op":"add","path":"/metadata/annotations","value":{}},{"op":"add","path":"/metadata/annotations/trustedresources.tekton.dev~1requested-by","value":"alice"}]`},
		"created by another": {requestOf("v1", "Task", "bob", "", taskIn(stamped, original)),
			`[{"op":"remove","path":"/metadata/annotations/trustedresources.tekton.dev~1requested-by"},{"op":"add","path":"/metadata/annotations/trustedresources.tekton.dev~1not-authorized","value":"bob"}]`},
		"same content":        {requestOf("v1", "Task", "bob", taskIn(stamped, original), taskIn(stamped, same)), ``},
		"same content, null":  {requestOf("v1", "Task", "bob", taskIn(`{}`, original), taskIn(`null`, same)), ``},
		"dropped":             {requestOf("v1", "Task", "bob", taskIn(stamped, original), taskIn(`{}`, original)), `[{"op":"add","path":"/metadata/annotations/trustedresources.tekton.dev~1requested-by","value":"alice"}]`},
		"changed by a holder": {requestOf("v1", "Task", "alice", taskIn(refusal, original), taskIn(refusal, changed)), `[{"op":"add","path":"/metadata/annotations/trustedresources.tekton.dev~1requested-by","value":"alice"},{"op":"remove","path":"/metadata/annotations/trustedresources.tekton.dev~1not-authorized"}]`},
		"in another version":  {requestOf("v1beta1", "Task", "bob", taskIn(stamped, original), taskIn(stamped, original)), `[{"op":"remove","path":"/metadata/annotations/trustedresources.tekton.dev~1requested-by"},{"op":"add","path":"/metadata/annotations/trustedresources.tekton.dev~1not-authorized","value":"bob"}]`},
		// Go's decoder takes "Spec" for "spec". The API server does not.
		"content hidden by case": {requestOf("v1", "Task", "bob", taskIn(stamped, original), strings.Replace(taskIn(stamped, changed), `"spec"`, `"Spec":`+original+`,"spec"`, 1)),
			`[{"op":"remove","path":"/metadata/annotations/trustedresources.tekton.dev~1requested-by"},{"op":"add","path":"/metadata/annotations/trustedresources.tekton.dev~1not-authorized","value":"bob"}]`},
	} {
		t.Run(name, func(t *testing.T) {
			got := newMutator(&holders{names: "alice"}).Admit(t.Context(), tc.request)
			if !got.Allowed || string(got.Patch) != tc.patch {
				t.Errorf("allowed %v with patch\n%s, want\n%s", got.Allowed, got.Patch, tc.patch)
			}
		})
	}
}

func TestAdmit_LeavesDryRunsOfTektonAlone(t *testing.T) {
	const tekton = "system:serviceaccount:tekton-pipelines:tekton-pipelines-controller"
	yes := true
	for name, tc := range map[string]struct {
		user    string
		dryRun  *bool
		patches bool
	}{
		"dry run of Tekton":          {tekton, &yes, false},
		"write of Tekton":            {tekton, nil, true},
		"dry run of another account": {"system:serviceaccount:a:b", &yes, true},
		"dry run of a user":          {"x:tekton-pipelines-controller", &yes, true},
	} {
		request := requestOf("v1", "Task", tc.user, "", taskIn(stamped, original))
		request.DryRun = tc.dryRun
		if got := newMutator(&holders{}).Admit(t.Context(), request); len(got.Patch) > 0 != tc.patches {
			t.Errorf("%s: patch %s", name, got.Patch)
		}
	}
}

// What cannot be answered is refused, with a status that says that a retry can help.
func TestAdmit_RefusesWhatItCannotAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		request *admissionv1.AdmissionRequest
		rights  *holders
		want    string
	}{
		"API server away":   {requestOf("v1", "Task", "alice", "", taskIn(stamped, original)), &holders{err: errors.New("refused connection")}, "refused connection"},
		"not JSON":          {requestOf("v1", "Task", "alice", "", "x"), &holders{}, "tasks ns/x"},
		"stored not JSON":   {requestOf("v1", "Task", "alice", "x", taskIn(stamped, original)), &holders{}, "tasks ns/x"},
		"no Task":           {requestOf("v1", "Task", "alice", taskIn(stamped, original), taskIn(stamped, `[]`)), &holders{}, "cannot be decoded"},
		"run without JSON":  {requestOf("v1", "TaskRun", "alice", "", ""), &holders{}, "taskruns"},
		"another resource":  {requestOf("v1", "CustomRun", "alice", "", "{}"), &holders{}, "called for customruns"},
		"nothing was given": {&admissionv1.AdmissionRequest{}, &holders{}, "called for"},
	} {
		got := newMutator(tc.rights).Admit(t.Context(), tc.request)
		if got.Allowed || got.Result.Code != 503 || !strings.Contains(got.Result.Message, tc.want) {
			t.Errorf("%s: got %+v, want %q", name, got, tc.want)
		}
	}
}

// No question is asked where the answer does not matter, or the setting is off.
func TestAdmit_AsksNoNeedlessQuestion(t *testing.T) {
	h := &holders{}
	m := newMutator(h)
	m.Admit(t.Context(), requestOf("v1", "Task", "bob", taskIn(stamped, original), taskIn(stamped, same)))
	m.config = config.Default
	got := m.Admit(t.Context(), requestOf("v1", "Task", "bob", "", taskIn(stamped, original)))
	if h.asked != 0 || !got.Allowed || got.Patch != nil {
		t.Errorf("asked %d times, got %+v", h.asked, got)
	}
}

func FuzzAdmit(f *testing.F) {
	f.Add("v1", "Task", "alice", taskIn(stamped, original), taskIn(refusal, changed))
	f.Add("v1beta1", "StepAction", "bob", "", `{"metadata":null,"spec":{"image":"x"}}`)
	f.Add("v1", "TaskRun", "bob", "", `{"spec":{"taskRef":{"name":"x","resolver":null}}}`)
	f.Add("v1", "PipelineRun", "bob", `{"spec":{"pipelineRef":[]}}`, `{"spec":{"pipelineRef":{"name":7}}}`)
	f.Fuzz(func(t *testing.T, version, kind, user, before, after string) {
		got := newMutator(&holders{names: "alice"}).Admit(t.Context(), requestOf(version, kind, user, before, after))
		if got.Patch != nil && !json.Valid(got.Patch) {
			t.Errorf("the patch is no JSON: %s", got.Patch)
		}
		if !got.Allowed && strings.Contains(got.Result.Message, "panicked") {
			t.Error(got.Result.Message)
		}
	})
}
