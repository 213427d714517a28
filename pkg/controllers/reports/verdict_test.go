// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	corev1 "k8s.io/api/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// outcome returns the outcome of policy "trust".
func outcome(result policy.Result, reason policy.Reason, mode policy.Mode) observe.PolicyOutcome {
	return observe.PolicyOutcome{Name: "trust", Mode: string(mode), Result: string(result), Reason: string(reason), Failed: result == policy.Failed}
}

var (
	passes1 = outcome(policy.Passed, "", policy.Enforce)
	fails1  = outcome(policy.Failed, policy.Unsigned, policy.Enforce)
)

// verified returns the fact about Task name, used by a run in namespace "prod".
func verified(name string, outcomes ...observe.PolicyOutcome) observe.Verified {
	decides := outcomes[0]
	return observe.Verified{
		Run:  &corev1.ObjectReference{Kind: "TaskRun", Namespace: "prod", Name: "run"},
		Kind: resource.Task, Namespace: "prod", Name: name, Source: "/apis/tekton.dev/v1/namespaces/prod/task/" + name + "@uid",
		Policy: decides.Name, Mode: decides.Mode, Result: decides.Result, Reason: decides.Reason, Policies: outcomes,
	}
}

// verdictOn returns the verdict that a fact is made to.
func verdictOn(t *testing.T, v observe.Verified, at time.Time) verdict {
	t.Helper()
	made, ok := newVerdict(&v, at)
	if !ok {
		t.Fatalf("%+v is not reported", v)
	}
	return made
}

func TestResultOf(t *testing.T) {
	for name, tc := range map[string]struct {
		outcome observe.PolicyOutcome
		want    openreports.Result
	}{
		"passed":                   {passes1, pass},
		"failed under enforce":     {fails1, fail},
		"failed under warn":        {outcome(policy.Failed, policy.SignatureInvalid, policy.Warn), warn},
		"failed without a policy":  {outcome(policy.Failed, policy.DigestMismatch, ""), fail},
		"key not there":            {outcome(policy.Failed, policy.KeyUnavailable, policy.Enforce), failure},
		"key not there under warn": {outcome(policy.Failed, policy.KeyUnavailable, policy.Warn), failure},
		"key not allowed":          {outcome(policy.Failed, policy.KeyNotAllowed, policy.Enforce), failure},
		"registry does not answer": {outcome(policy.Skipped, policy.SignatureUnavailable, ""), failure},
		"unusable policy":          {outcome(policy.Failed, policy.PolicyInvalid, policy.Enforce), failure},
		"policies not evaluated":   {outcome(policy.Skipped, policy.PolicyInvalid, ""), failure},
		"no policy":                {outcome(policy.Skipped, policy.NoPolicy, policy.Skip), skip},
		"content not known":        {outcome(policy.Skipped, policy.ContentUnavailable, ""), skip},
	} {
		if got := resultOf(tc.outcome); got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
	}
}

func TestNewVerdict_HasOneResultForEachPolicyThatDidNotPass(t *testing.T) {
	second := outcome(policy.Failed, policy.SignatureInvalid, policy.Warn)
	second.Name, second.Cluster = "second", true
	v := verdictOn(t, verified("build", fails1, second, passes1), noon.Add(time.Millisecond))
	if v.passed != 1 || len(v.entries) != 2 || !v.at.Equal(noon) {
		t.Fatalf("got %+v", v)
	}
	got, err := json.Marshal(v.entries[1].result)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"source":"","policy":"second","timestamp":{"seconds":1795867200,"nanos":0},"result":"warn",` +
		`"resources":[{"kind":"Task","namespace":"prod","name":"build","apiVersion":"tekton.dev/v1"}],"message":"SignatureInvalid, as used by TaskRun run",` +
		`"properties":{"mode":"warn","policyScope":"cluster","reason":"SignatureInvalid","run":"TaskRun run","source":"/apis/tekton.dev/v1/namespaces/prod/task/build"}}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !v.entries[0].result.Scored || v.entries[1].result.Scored {
		t.Error("what fails under enforce is scored, and nothing else")
	}
}

func TestNewVerdict_WithoutPolicies(t *testing.T) {
	v := verified("build", outcome(policy.Failed, policy.DigestMismatch, ""))
	v.Policy, v.Policies = "", nil
	if r := verdictOn(t, v, noon).entries[0].result; r.Policy != noPolicy || r.Result != fail || r.Properties[scopeProperty] != "" {
		t.Errorf("got %+v", r)
	}
	v.Result, v.Reason = string(policy.Skipped), string(policy.Inline)
	if made, ok := newVerdict(&v, noon); ok {
		t.Errorf("a spec in the run itself is reported: %+v", made)
	}
}

func TestSourceOf_HasNoSecret(t *testing.T) {
	for uri, want := range map[string]string{
		"git+https://s3cr3t@git.example/a.git?key=s3cr3t#s3cr3t": "git+https://git.example/a.git",
		"https://git.example/a.git":                              "https://git.example/a.git",
		"/apis/tekton.dev/v1/namespaces/ns/task/a@1234":          "/apis/tekton.dev/v1/namespaces/ns/task/a",
		"s3cr3t@git.example:org/repo":                            "",
		"":                                                       "",
	} {
		if got := sourceOf(uri); got != want {
			t.Errorf("%s: got %q, want %q", uri, got, want)
		}
	}
}

// A resource from another source, and one that was made anew in the same place.
func TestResourceID(t *testing.T) {
	a, b, c := verified("build", fails1), verified("build", fails1), verified("build", fails1)
	b.Source = strings.Replace(b.Source, "@uid", "@other", 1)
	c.Source = "https://git.example/a.git"
	id := func(v observe.Verified) resourceID { return verdictOn(t, v, noon).id }
	if id(a) != id(b) {
		t.Error("an object that was deleted and created again is another resource")
	}
	if id(a) == id(c) {
		t.Error("resources of the same name from two sources are one")
	}
}

// Whatever is in a fact, its results are as small as a Report allows, and are read as they
// were written.
func FuzzNewVerdict(f *testing.F) {
	f.Add("build", "trust", "https://git.example/a.git?token=x", "Unsigned", "enforce")
	f.Add(strings.Repeat("\x00", 5000), strings.Repeat("\"", 5000), "/apis/"+strings.Repeat("<", 5000), strings.Repeat("\xff", 300), strings.Repeat("é", 300))
	f.Fuzz(func(t *testing.T, name, policyName, source, reason, mode string) {
		o := observe.PolicyOutcome{Name: policyName, Mode: mode, Result: "FAILED", Reason: reason, Failed: true}
		v := verified(name, o)
		v.Namespace, v.Source, v.Run.Name = name, source, name
		made, ok := newVerdict(&v, noon)
		if !ok {
			return
		}
		encoded, err := json.Marshal(made.entries[0].result)
		if err != nil {
			t.Fatal(err)
		}
		var decoded openreports.ReportResult
		if err := json.Unmarshal(encoded, &decoded); err != nil {
			t.Fatal(err)
		}
		read, ok := newEntry(decoded, noon)
		if !ok || read.rule != made.entries[0].rule || read.rule.of != made.id {
			t.Fatalf("%d bytes were read as %+v (%v)", len(encoded), read.rule, ok)
		}
	})
}

func FuzzDecodePasses(f *testing.F) {
	f.Add(passes{resourceID{1}: {dayOf(noon), 2}}.encode())
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		decoded := decodePasses(text, noon)
		again := decodePasses(decoded.encode(), noon)
		if len(again) != len(decoded) || again.count() != decoded.count() || decoded.count() > maxPolicies*len(decoded) {
			t.Fatalf("got %v, then %v", decoded, again)
		}
	})
}
