package policy

import "testing"

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
		compiled, err := (&pattern{source: tc.pattern}).compiled()
		if err != nil {
			t.Fatalf("%q: %v", tc.pattern, err)
		}
		for _, source := range tc.accepts {
			if !compiled.MatchString(normalized(source)) {
				t.Errorf("%q does not match %q", tc.pattern, source)
			}
		}
		for _, source := range tc.rejects {
			if compiled.MatchString(normalized(source)) {
				t.Errorf("%q matches %q", tc.pattern, source)
			}
		}
	}
}

// A pattern with anchors at both ends is not changed. In a regular expression an
// anchor binds stronger than |, so each anchor belongs to one alternative. Tekton
// accepts these sources, so the verdict must accept them.
func TestPattern_AnchorsBindStrongerThanAlternatives(t *testing.T) {
	compiled := must((&pattern{source: "^https://git.example/a|https://git.example/b$"}).compiled())
	for source, want := range map[string]bool{
		"https://git.example/a":                             true,
		"https://git.example/b":                             true,
		"https://git.example/a.evil.example":                true,
		"https://evil.example/?x=https://git.example/b":     true,
		"https://evil.example/?x=https://git.example/a":     false,
		"https://git.example/b.evil.example":                false,
		"https://evil.example/?x=https://git.example/b/etc": false,
	} {
		if got := compiled.MatchString(source); got != want {
			t.Errorf("%q: got %t, want %t", source, got, want)
		}
	}
	grouped := must((&pattern{source: "^(https://git.example/a|https://git.example/b)$"}).compiled())
	if grouped.MatchString("https://git.example/a.evil.example") {
		t.Error("the pattern with a group matches a longer source")
	}
}

func TestPattern_RejectsInvalidExpression(t *testing.T) {
	for _, source := range []string{"(", "[a-", "*", `\`, "a{2,1}"} {
		if _, err := (&pattern{source: source}).compiled(); err == nil {
			t.Errorf("%q: got no error", source)
		}
	}
}
