// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"slices"
	"strings"
	"testing"
)

func TestParseOptions_MemoryCounts(t *testing.T) {
	for _, tc := range []struct {
		args string
		want []int
	}{
		{"", []int{5000, 20000}},
		{"--count 10", []int{10, 40}},
		{"--memory", []int{100000}},
		{"--memory --memory-count 500", []int{500}},
		{"--memory-count 500,2000", []int{500, 2000}},
	} {
		o, err := parseOptions(strings.Fields(tc.args), io.Discard)
		check(t, err)
		if !slices.Equal(o.memoryCounts, tc.want) {
			t.Errorf("%q: got %v, want %v", tc.args, o.memoryCounts, tc.want)
		}
	}
}

func TestParseOptions_RotatesOnRequestOnly(t *testing.T) {
	for _, tc := range []struct {
		args              string
		rotation, backlog bool
	}{{"", false, true}, {"--backlog", false, true}, {"--rotation", true, false}} {
		o, err := parseOptions(strings.Fields(tc.args), io.Discard)
		check(t, err)
		if o.rotation != tc.rotation || o.backlog != tc.backlog || !o.needsCluster() {
			t.Errorf("%q: rotation %t, backlog %t, cluster %t", tc.args, o.rotation, o.backlog, o.needsCluster())
		}
	}
	if _, err := parseOptions([]string{"--rotation", "--namespaces", "0"}, io.Discard); err == nil {
		t.Error("accepted --namespaces 0")
	}
}

func TestParseOptions_RejectsMemoryCounts(t *testing.T) {
	for _, value := range []string{"", "0", "-5", "1,,2", "many"} {
		if _, err := parseOptions([]string{"--memory-count", value}, io.Discard); err == nil {
			t.Errorf("accepted %q", value)
		}
	}
}
