// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"

	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

var testWriter = New(Inputs{Owner: "tekton-chains"})

// merged returns the shards after verdicts were added at a time.
func merged(t *testing.T, shards []*openreports.Report, at time.Time, facts ...observe.Verified) []*openreports.Report {
	t.Helper()
	verdicts := map[resourceID]verdict{}
	for _, fact := range facts {
		v := verdictOn(t, fact, at)
		verdicts[v.id] = v
	}
	c := contentOf(shards, at)
	c.add(verdicts)
	made := make([]*openreports.Report, 0, len(c.shards))
	for i := range c.shards {
		made = append(made, testWriter.reportOf(c, "prod", resource.Task, i))
	}
	return made
}

func expectSummary(t *testing.T, shards []*openreports.Report, want openreports.ReportSummary) {
	t.Helper()
	var got openreports.ReportSummary
	for _, shard := range shards {
		s := shard.Summary
		got.Pass, got.Fail, got.Warn, got.Error, got.Skip = got.Pass+s.Pass, got.Fail+s.Fail, got.Warn+s.Warn, got.Error+s.Error, got.Skip+s.Skip
		if n := s.Fail + s.Warn + s.Error + s.Skip; n != len(shard.Results) {
			t.Errorf("%s has %d results and counts %d", shard.Name, len(shard.Results), n)
		}
	}
	if got != want {
		t.Errorf("the summary is %+v, want %+v", got, want)
	}
}

// The last verdict on a resource counts, and each resource counts once.
func TestMerge_ReplacesVerdicts(t *testing.T) {
	other := outcome(policy.Failed, policy.KeyUnavailable, policy.Warn)
	other.Name = "other"
	shards := merged(t, nil, noon, verified("a", passes1), verified("b", fails1), verified("c", fails1, other))
	expectSummary(t, shards, openreports.ReportSummary{Pass: 1, Fail: 2, Error: 1})
	shards = merged(t, shards, noon.Add(time.Minute), verified("a", passes1), verified("c", passes1))
	expectSummary(t, shards, openreports.ReportSummary{Pass: 2, Fail: 1})
	shards = merged(t, shards, noon.Add(time.Hour), verified("a", fails1), verified("b", passes1))
	expectSummary(t, shards, openreports.ReportSummary{Pass: 2, Fail: 1})
	if r := shards[0].Results[0]; r.Subjects[0].Name != "a" || r.Timestamp.Seconds != noon.Add(time.Hour).Unix() {
		t.Errorf("got %+v", r)
	}
}

// Two replicas that saw the same resources, or a replica that could not write for a while.
func TestMerge_KeepsWhatIsNewer(t *testing.T) {
	shards := merged(t, nil, noon.Add(time.Minute), verified("a", fails1))
	c, late := contentOf(shards, noon.Add(time.Minute)), verdictOn(t, verified("a", passes1), noon)
	c.add(map[resourceID]verdict{late.id: late})
	if got := c.summary(0); got.Fail != 1 || got.Pass != 0 {
		t.Errorf("an older verdict replaced a newer one: %+v", got)
	}
}

func TestMerge_ForgetsAfterRetention(t *testing.T) {
	shards := merged(t, nil, noon, verified("a", passes1), verified("b", fails1))
	shards = merged(t, shards, noon.Add(retention-time.Hour), verified("c", fails1))
	expectSummary(t, shards, openreports.ReportSummary{Pass: 1, Fail: 2})
	shards = merged(t, shards, noon.Add(retention+24*time.Hour), verified("d", passes1))
	expectSummary(t, shards, openreports.ReportSummary{Pass: 1, Fail: 1})
}

// manyFacts returns facts about n resources.
func manyFacts(n int, prefix string, o observe.PolicyOutcome) []observe.Verified {
	all := make([]observe.Verified, 0, n)
	for i := range n {
		all = append(all, verified(fmt.Sprint(prefix, i), o))
	}
	return all
}

func TestMerge_Shards(t *testing.T) {
	sizes := func(shards []*openreports.Report) string {
		names := make([]string, 0, len(shards))
		for _, s := range shards {
			names = append(names, fmt.Sprintf("%s:%d", s.Name, len(s.Results)))
		}
		return strings.Join(names, " ")
	}
	first := manyFacts(500, "a", fails1)
	shards := merged(t, nil, noon, first...)
	if got := sizes(shards); got != "trusted-resources-task:500" {
		t.Fatalf("500 results: %s", got)
	}
	shards = merged(t, shards, noon.Add(time.Minute), verified("one-more", fails1))
	if got := sizes(shards); got != "trusted-resources-task:500 trusted-resources-task-2:1" {
		t.Fatalf("501 results: %s", got)
	}
	expectSummary(t, shards, openreports.ReportSummary{Fail: 501})
	// A result stays in its shard, and the second one is not needed any more when it is empty.
	fixed := merged(t, shards, noon.Add(2*time.Minute), verified("a0", passes1))
	if got := sizes(fixed); got != "trusted-resources-task:499 trusted-resources-task-2:1" {
		t.Fatalf("one was fixed: %s", got)
	}
	fixed = merged(t, fixed, noon.Add(3*time.Minute), verified("one-more", passes1))
	if got := sizes(fixed); got != "trusted-resources-task:499" {
		t.Fatalf("the one in the second shard was fixed, too: %s", got)
	}
	expectSummary(t, fixed, openreports.ReportSummary{Pass: 2, Fail: 499})

	shards = merged(t, shards, noon.Add(time.Hour), manyFacts(maxShards*maxResults-1, "b", fails1)...)
	if len(shards) != maxShards {
		t.Fatalf("too many results: %s", sizes(shards))
	}
	expectSummary(t, shards, openreports.ReportSummary{Fail: maxShards * maxResults})
	for _, shard := range shards {
		for _, r := range shard.Results {
			if strings.HasPrefix(r.Subjects[0].Name, "a") {
				t.Fatalf("%s is kept, and newer results are not", r.Subjects[0].Name)
			}
		}
	}
}

// The largest Report is well below the 1.5 MiB that etcd takes.
func TestMerge_BoundsTheSize(t *testing.T) {
	huge := outcome(policy.Failed, policy.Reason(strings.Repeat("<", 5000)), policy.Mode(strings.Repeat("\x01", 5000)))
	huge.Name = strings.Repeat("\"", 5000)
	facts := manyFacts(maxResults, strings.Repeat("é<", 5000), huge)
	for i := range facts {
		facts[i].Namespace, facts[i].Run.Name = strings.Repeat("n", 5000), strings.Repeat("\\", 5000)
		facts[i].Source = fmt.Sprint("https://git.example/", i, strings.Repeat("x", 5000))
	}
	shards := merged(t, nil, noon, facts...)
	shards = merged(t, shards, noon, manyFacts(2*maxPassed, "passed", passes1)...)
	if len(shards) != 1 || len(shards[0].Results) != maxResults || shards[0].Summary.Pass != maxPassed {
		t.Fatalf("got %d shards, the first with %d results and %+v", len(shards), len(shards[0].Results), shards[0].Summary)
	}
	encoded, err := json.Marshal(shards[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(encoded) > 1<<20 {
		t.Errorf("the Report has %d bytes, want at most 1 MiB", len(encoded))
	}
	if annotation := shards[0].Annotations; len(fmt.Sprint(annotation)) > 250<<10 {
		t.Errorf("the annotations have %d bytes; Kubernetes takes 256 KiB", len(fmt.Sprint(annotation)))
	}
	again := merged(t, shards, noon, verified("passed0", passes1))
	if again[0].Summary != shards[0].Summary {
		t.Errorf("read again: %+v, want %+v", again[0].Summary, shards[0].Summary)
	}
}

// Somebody who may write the Report cannot make the controller keep what the controller did not write.
func TestMerge_DropsWhatOthersWrote(t *testing.T) {
	good := merged(t, nil, noon, verified("a", fails1))
	for name, forge := range map[string]func(*openreports.ReportResult){
		"no subject":     func(r *openreports.ReportResult) { r.Subjects = nil },
		"a passed one":   func(r *openreports.ReportResult) { r.Result = pass },
		"of the future":  func(r *openreports.ReportResult) { r.Timestamp.Seconds += 100_000 },
		"large":          func(r *openreports.ReportResult) { r.Description = strings.Repeat("x", maxResult) },
		"two of one":     func(*openreports.ReportResult) {},
		"another result": func(r *openreports.ReportResult) { r.Result = "unknown" },
	} {
		forged := good[0].DeepCopy()
		result := forged.Results[0].DeepCopy()
		forge(result)
		forged.Results = append(forged.Results, *result)
		forged.Annotations = map[string]string{"trustedresources.tekton.dev/passed": "!"}
		got := merged(t, []*openreports.Report{forged}, noon, verified("b", passes1))
		if len(got[0].Results) != 1 || got[0].Summary.Pass != 1 {
			t.Errorf("%s: got %+v of %+v", name, got[0].Summary, got[0].Results)
		}
	}
}
