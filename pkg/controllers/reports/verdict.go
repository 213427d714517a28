// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// The values of openreports.Result.
const (
	pass    openreports.Result = "pass"
	fail    openreports.Result = "fail"
	warn    openreports.Result = "warn"
	failure openreports.Result = "error"
	skip    openreports.Result = "skip"
)

// Keys of the properties of a result.
const (
	reasonProperty = "reason"
	modeProperty   = "mode"
	scopeProperty  = "policyScope"
	runProperty    = "run"
	sourceProperty = "source"
)

const (
	// source identifies the program that made a Report.
	source = "trusted-resources"
	// noPolicy stands for the policy where none decided. No policy can have this name.
	noPolicy = "NoPolicy"
)

// Bounds of texts, in bytes of JSON. Names that Kubernetes has checked fit.
const (
	maxName   = 253
	maxShort  = 64
	maxSource = 256
	// maxResult bounds a whole result.
	maxResult = 2 << 10
	// maxPolicies bounds the results for one resource.
	maxPolicies = 20
)

// resourceID names a resource behind the runs of a namespace, of one kind. It is the
// beginning of a SHA-256.
type resourceID [8]byte

func (id resourceID) compare(other resourceID) int { return bytes.Compare(id[:], other[:]) }

func newResourceID(namespace, name, source string) (id resourceID) {
	sum := sha256.Sum256([]byte(namespace + "\x00" + name + "\x00" + source))
	copy(id[:], sum[:])
	return id
}

// verdict is what the policies said about a resource behind a run.
type verdict struct {
	id resourceID
	at time.Time // in full seconds, as in a Report
	// passed is the number of policies that the resource passed.
	passed int64
	// entries have the results of the other policies.
	entries []entry
}

// newVerdict returns the verdict that a fact has. ok is false if the run has the spec itself,
// so that there is no resource.
func newVerdict(v *observe.Verified, at time.Time) (made verdict, ok bool) {
	if v.Reason == string(policy.Inline) {
		return verdict{}, false
	}
	subject := subjectOf(v)
	from := sourceOf(v.Source)
	made = verdict{id: newResourceID(subject.Namespace, subject.Name, from), at: at.Truncate(time.Second)}
	outcomes := v.Policies
	if len(outcomes) == 0 {
		outcomes = []observe.PolicyOutcome{{Name: v.Policy, Mode: v.Mode, Result: v.Result, Reason: v.Reason, Failed: v.Failed}}
	}
	run := bounded(v.Run.Kind+" "+v.Run.Name, maxName)
	for _, o := range outcomes {
		result := resultOf(o)
		if result == pass {
			made.passed = min(made.passed+1, maxPolicies)
			continue
		}
		if len(made.entries) == maxPolicies {
			continue
		}
		r := openreports.ReportResult{
			Policy: cmp.Or(bounded(o.Name, maxName), noPolicy), Result: result, Scored: result == fail,
			Timestamp:   metav1.Timestamp{Seconds: at.Unix()},
			Subjects:    []corev1.ObjectReference{subject},
			Description: fmt.Sprintf("%s, as used by %s", bounded(o.Reason, maxShort), run),
			Properties:  properties(o, run, from),
		}
		made.entries = append(made.entries, entry{ruleOf(&r), r})
	}
	return made, true
}

func subjectOf(v *observe.Verified) corev1.ObjectReference {
	apiVersion, kind := v.Kind.GroupVersionKind().ToAPIVersionAndKind()
	return corev1.ObjectReference{APIVersion: apiVersion, Kind: kind, Namespace: bounded(v.Namespace, maxShort), Name: bounded(v.Name, maxName)}
}

func properties(o observe.PolicyOutcome, run, from string) map[string]string {
	made := map[string]string{runProperty: run}
	put := func(name, value string) {
		if value != "" {
			made[name] = bounded(value, maxShort)
		}
	}
	put(reasonProperty, o.Reason)
	put(modeProperty, o.Mode)
	if o.Name != "" {
		put(scopeProperty, scopeOf(o.Cluster))
	}
	if from != "" {
		made[sourceProperty] = from
	}
	return made
}

func scopeOf(cluster bool) string {
	if cluster {
		return "cluster"
	}
	return "namespace"
}

// notEvaluated are the reasons for which a policy could say neither yes nor no.
var notEvaluated = []policy.Reason{policy.KeyUnavailable, policy.KeyNotAllowed, policy.SignatureUnavailable, policy.PolicyInvalid}

// resultOf translates an outcome.
func resultOf(o observe.PolicyOutcome) openreports.Result {
	switch {
	case o.Result == string(policy.Passed):
		return pass
	case slices.Contains(notEvaluated, policy.Reason(o.Reason)):
		return failure
	case o.Result == string(policy.Skipped):
		return skip
	case o.Mode == string(policy.Warn):
		return warn
	default:
		return fail
	}
}

// clusterSource begins the URI of a resource in the cluster, which ends with "@" and a UID.
const clusterSource = "/apis/"

// sourceOf returns a URI without what can be secret, and without the UID of an object; empty
// for what is no URI.
func sourceOf(uri string) string {
	if strings.HasPrefix(uri, clusterSource) {
		uri, _, _ = strings.Cut(uri, "@")
		return bounded(uri, maxSource)
	}
	u, err := url.Parse(uri)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = nil, "", false, "", ""
	return bounded(u.String(), maxSource)
}

// bounded shortens a text to at most n bytes of JSON.
func bounded(text string, n int) string {
	text = strings.ToValidUTF8(text, string(utf8.RuneError))
	for i, r := range text {
		if n -= sizeOf(r); n < 0 {
			return text[:i]
		}
	}
	return text
}

// escaped is the size of a character that encoding/json escapes.
const escaped = len(`\u0000`)

func sizeOf(r rune) int {
	if r < ' ' || r == '\u2028' || r == '\u2029' || strings.ContainsRune(`"\<>&`, r) {
		return escaped
	}
	return utf8.RuneLen(r)
}

// entry is a result that is not pass.
type entry struct {
	rule   rule
	result openreports.ReportResult
}

// rule is what a result is about. A Report has one result about each.
type rule struct {
	of     resourceID
	policy string
	scope  string
}

func ruleOf(r *openreports.ReportResult) rule {
	s := r.Subjects[0]
	return rule{newResourceID(s.Namespace, s.Name, r.Properties[sourceProperty]), r.Policy, r.Properties[scopeProperty]}
}

func (e entry) at() time.Time { return time.Unix(e.result.Timestamp.Seconds, 0) }

// newEntry reads a result of a Report. ok is false if the result is too old, or if somebody
// else wrote it.
func newEntry(r openreports.ReportResult, now time.Time) (e entry, ok bool) {
	e.result = r
	encoded, err := json.Marshal(r)
	if err != nil || len(encoded) > maxResult || len(r.Subjects) != 1 || !slices.Contains([]openreports.Result{fail, warn, failure, skip}, r.Result) {
		return entry{}, false
	}
	e.rule = ruleOf(&r)
	age := now.Sub(e.at())
	return e, age > -maxSkew && age < retention
}
