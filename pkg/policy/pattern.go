// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// pattern is one entry of the resources of a policy.
type pattern struct {
	text string
	// literal: the text is no regular expression, but the source itself, or the beginning of
	// the source if open.
	literal, open bool
}

func (p pattern) matches(source string, limits *limits) (bool, error) {
	switch {
	case p.literal && p.open:
		return strings.HasPrefix(source, p.text), nil
	case p.literal:
		return source == p.text, nil
	}
	return matches(p.text, source, limits)
}

// matches reports whether a pattern of a policy matches the whole normalized
// source. It returns an error when the pattern is not a regular expression, or is
// beyond the limits. The compiled expression is not kept: a Set remembers which
// policies match a source, and the expressions of all namespaces would fill the
// memory.
func matches(pattern, source string, limits *limits) (bool, error) {
	if isSimple(pattern) {
		return matchesSimple(pattern, source), nil
	}
	if err := limits.allow(anchored(pattern)); err != nil {
		return false, err
	}
	expression, err := regexp.Compile(anchored(pattern))
	return err == nil && expression.MatchString(source), err
}

const anyText = ".*"

// isSimple reports whether a pattern has only characters that stand for
// themselves, dots, and possibly ".*" at its end. Most patterns are like this.
// Compiling them as regular expressions would take more time than reading a key.
func isSimple(pattern string) bool {
	for _, char := range []byte(strings.TrimSuffix(pattern, anyText)) {
		switch {
		case 'a' <= char && char <= 'z', 'A' <= char && char <= 'Z', '0' <= char && char <= '9':
		case strings.IndexByte("./:-_@", char) >= 0:
		default:
			return false
		}
	}
	return true
}

// matchesSimple matches the whole source with a simple pattern. As in a regular
// expression, a dot matches any character but a line feed.
func matchesSimple(pattern, source string) bool {
	prefix, open := strings.CutSuffix(pattern, anyText)
	for i := range len(prefix) {
		char, size := utf8.DecodeRuneInString(source)
		matches := char == rune(prefix[i]) || (prefix[i] == '.' && char != '\n')
		if size == 0 || !matches {
			return false
		}
		source = source[size:]
	}
	if open {
		return !strings.Contains(source, "\n")
	}
	return source == ""
}

// anchored anchors a pattern as Tekton does (getMatchedPolicies in
// pkg/trustedresources). A pattern that begins with ^ and ends with $ is not
// changed, so "^a|b$" matches each source that begins with a or ends with b. The
// cluster enforces this, so the verdict must report it.
func anchored(source string) string {
	begins, ends := strings.HasPrefix(source, "^"), strings.HasSuffix(source, "$")
	if begins && ends {
		return source
	}
	if begins {
		source = source[1:]
	}
	if ends {
		source = source[:len(source)-1]
	}
	return "^(?:" + source + ")$"
}

// normalized returns the source without white space around it and without the
// SPDX prefix of the git resolver, because Tekton matches patterns with that.
func normalized(source string) string {
	return strings.TrimPrefix(strings.TrimSpace(source), "git+")
}
