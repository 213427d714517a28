// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"math/rand/v2"
	"regexp"
	"testing"
)

func TestPattern_MatchesWholeSource(t *testing.T) {
	for _, tc := range []struct {
		pattern          string
		accepts, rejects []string
	}{
		{"https://git.example/catalog",
			[]string{"https://git.example/catalog", "git+https://git.example/catalog", " git+https://git.example/catalog\n"},
			[]string{"https://git.example/catalog/x", "https://evil.example/?https://git.example/catalog", "git+git+https://git.example/catalog", ""}},
		{"^https://git.example/", []string{"https://git.example/"}, []string{"https://git.example/catalog"}},
		{"catalog$", []string{"catalog"}, []string{"https://git.example/catalog"}},
		{"^https://git.example/.*$", []string{"https://git.example/catalog"}, []string{"x https://git.example/catalog"}},
		{"https://git.example/.*", []string{"https://git.example/", "https://git.example/catalog"}, []string{"http://git.example/", "https://git.example/a\nb"}},
		{"a|b", []string{"a", "b"}, []string{"ab", "ac", "cb"}},
		{"git+https://git.example", nil, []string{"git+https://git.example", "https://git.example"}},
		{"", []string{"", "  ", "git+"}, []string{"a"}},
		{"^", []string{""}, []string{"a"}},
		{"$", []string{""}, []string{"a"}},
		{"^$", []string{""}, []string{"a"}},
	} {
		for _, source := range tc.accepts {
			if !must(matches(tc.pattern, normalized(source), &limits{})) {
				t.Errorf("%q does not match %q", tc.pattern, source)
			}
		}
		for _, source := range tc.rejects {
			if must(matches(tc.pattern, normalized(source), &limits{})) {
				t.Errorf("%q matches %q", tc.pattern, source)
			}
		}
	}
}

// A pattern with anchors at both ends is not changed. In a regular expression an
// anchor binds stronger than |, so each anchor belongs to one alternative. Tekton
// accepts these sources, so the verdict must accept them.
func TestPattern_AnchorsBindStrongerThanAlternatives(t *testing.T) {
	const pattern = "^https://git.example/a|https://git.example/b$"
	for source, want := range map[string]bool{
		"https://git.example/a":                             true,
		"https://git.example/b":                             true,
		"https://git.example/a.evil.example":                true,
		"https://evil.example/?x=https://git.example/b":     true,
		"https://evil.example/?x=https://git.example/a":     false,
		"https://git.example/b.evil.example":                false,
		"https://evil.example/?x=https://git.example/b/etc": false,
	} {
		if got := must(matches(pattern, source, &limits{})); got != want {
			t.Errorf("%q: got %t, want %t", source, got, want)
		}
	}
	if must(matches("^(https://git.example/a|https://git.example/b)$", "https://git.example/a.evil.example", &limits{})) {
		t.Error("the pattern with a group matches a longer source")
	}
}

func TestPattern_RejectsInvalidExpression(t *testing.T) {
	for _, source := range []string{"(", "[a-", "*", `\`, "a{2,1}"} {
		if _, err := matches(source, "", &limits{}); err == nil {
			t.Errorf("%q: got no error", source)
		}
	}
}

// Simple patterns do not use a regular expression. They must match the same
// sources.
func TestMatchesSimple_AgreesWithRegularExpression(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 0)) //nolint:gosec // needs to be repeatable
	text := func(parts ...string) (all string) {
		for range random.IntN(6) {
			all += parts[random.IntN(len(parts))]
		}
		return all
	}
	simple, matching := 0, 0
	for range 200_000 {
		source := text("a", "b", ".", "/", "é", "\xff", "\n", "-")
		p := text("a", "b", ".", "/", "-", ".*", "*") + []string{"", ".*"}[random.IntN(2)]
		if !isSimple(p) {
			continue
		}
		want := regexp.MustCompile(anchored(p)).MatchString(source)
		if got := matchesSimple(p, source); got != want {
			t.Fatalf("pattern %q, source %q: got %t, want %t", p, source, got, want)
		}
		simple++
		if want {
			matching++
		}
	}
	if simple < 20_000 || matching < 5_000 {
		t.Errorf("only %d patterns are simple, and %d match", simple, matching)
	}
}

func TestIsSimple(t *testing.T) {
	for p, want := range map[string]bool{
		"": true, ".*": true, "https://git.example/catalog": true, "https://git.example/.*": true, "a_b-c@D9": true,
		"*": false, "a*": false, ".*.*": false, ".*a": false, "a|b": false, "^a$": false, "a\nb": false, "é": false, `a\.b`: false, "a+": false,
	} {
		if got := isSimple(p); got != want {
			t.Errorf("%q: got %t, want %t", p, got, want)
		}
	}
}
