// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"strings"
	"testing"
	"time"
)

// memoryOf returns one sample for each minute.
func memoryOf(resident ...mebibytes) []memorySample {
	samples := make([]memorySample, 0, len(resident))
	for i, r := range resident {
		samples = append(samples, memorySample{After: inSeconds(time.Duration(i+1) * time.Minute), Footprint: footprint{Resident: r}})
	}
	return samples
}

func TestGrowth_ComparesLevels(t *testing.T) {
	warm := []mebibytes{10, 40, 60, 80, 90, 90, 100, 80, 100, 95} // the level is 100
	for name, tc := range map[string]struct {
		samples []mebibytes
		want    float64
	}{
		"flat":                           {append(warm, 90, 100, 95), 0},
		"grows":                          {append(warm, 110, 120), 0.2},
		"shrinks":                        {append(warm, 60, 50), -0.4},
		"only the last 10 minutes count": {append(warm, 500, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100), 0},
	} {
		got := growth(memoryOf(tc.samples...))
		if got == nil || *got-tc.want > 1e-9 || tc.want-*got > 1e-9 {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
	for name, samples := range map[string][]memorySample{"no sample": nil, "too short": memoryOf(warm...)} {
		if got := growth(samples); got != nil {
			t.Errorf("%s: got %v, want no answer", name, *got)
		}
	}
}

func TestSoak_NamesEachFault(t *testing.T) {
	grown, flat := 0.5, 0.05
	good := honest{Signature: latency{Count: 100, P99: 900}}
	done := []actionCount{{Name: "bomb", Count: 3, Failed: 1}}
	for name, tc := range map[string]struct {
		soak soak
		want string
	}{
		"all is well":    {soak{Honest: good, Growth: &flat, Hostile: done}, ""},
		"short":          {soak{Honest: good, Hostile: done}, ""},
		"slow":           {soak{Honest: honest{Signature: latency{Count: 100, P99: 1000}}, Hostile: done}, "p99"},
		"nothing signed": {soak{Hostile: done}, "0 honest Tasks were signed"},
		"unsigned":       {soak{Honest: honest{Signature: good.Signature, Unsigned: 1}, Hostile: done}, "1 were not"},
		"grows":          {soak{Honest: good, Growth: &grown, Hostile: done}, "the memory grew by 50 %"},
		"crashed":        {soak{Honest: good, Restarts: 1, Hostile: done}, "ended 1 times"},
		"no attack":      {soak{Honest: good, Hostile: []actionCount{{Name: "bomb", Count: 2, Failed: 2, LastError: "forbidden"}}}, "forbidden"},
	} {
		tc.soak.judge()
		got := strings.Join(tc.soak.Faults, "; ")
		if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func TestParseOptions_SoakRunsAlone(t *testing.T) {
	o, err := parseOptions(strings.Fields("--soak --duration 2m --set a=b=c --set d="), io.Discard)
	check(t, err)
	if !o.soak || o.latency || o.backlog || o.memory || o.verification || o.storage {
		t.Errorf("got %+v, want the soak alone", o)
	}
	if o.settings["a"] != "b=c" || o.settings["d"] != "" || len(o.settings) != 2 {
		t.Errorf("got settings %v", o.settings)
	}
	if o, err = parseOptions(nil, io.Discard); err != nil || o.soak {
		t.Errorf("without flags the soak is %v, error %v; want no soak", o.soak, err)
	}
	for _, args := range []string{"--soak --duration 0s", "--soak --honest-rate 0", "--soak --pace 0", "--soak --burst-rate -1", "--set novalue", "--actions bomb,none"} {
		if _, err := parseOptions(strings.Fields(args), io.Discard); err == nil {
			t.Errorf("accepted %s", args)
		}
	}
}
