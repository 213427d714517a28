package policy

import "testing"

func TestPatternsMatchWholeSources(t *testing.T) {
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
		compiled := compile(tc.pattern)
		if compiled.err != nil {
			t.Fatalf("%q: %v", tc.pattern, compiled.err)
		}
		for _, source := range tc.accepts {
			if !compiled.expression.MatchString(normalized(source)) {
				t.Errorf("%q does not match %q", tc.pattern, source)
			}
		}
		for _, source := range tc.rejects {
			if compiled.expression.MatchString(normalized(source)) {
				t.Errorf("%q matches %q", tc.pattern, source)
			}
		}
	}
}

// A pattern that is anchored at both ends is taken as it is, and there | binds
// less than the anchors. Tekton accepts these sources, so we say so.
func TestAnchoredAlternativesMatchMoreThanTheySeem(t *testing.T) {
	compiled := compile("^https://git.example/a|https://git.example/b$")
	for source, want := range map[string]bool{
		"https://git.example/a":                             true,
		"https://git.example/b":                             true,
		"https://git.example/a.evil.example":                true,
		"https://evil.example/?x=https://git.example/b":     true,
		"https://evil.example/?x=https://git.example/a":     false,
		"https://git.example/b.evil.example":                false,
		"https://evil.example/?x=https://git.example/b/etc": false,
	} {
		if got := compiled.expression.MatchString(source); got != want {
			t.Errorf("%q: got %t, want %t", source, got, want)
		}
	}
	grouped := compile("^(https://git.example/a|https://git.example/b)$")
	if grouped.expression.MatchString("https://git.example/a.evil.example") {
		t.Error("what is grouped matches more, too")
	}
}

func TestPatternThatIsNoExpression(t *testing.T) {
	for _, source := range []string{"(", "[a-", "*", `\`, "a{2,1}"} {
		if compile(source).err == nil {
			t.Errorf("%q is accepted", source)
		}
	}
}
