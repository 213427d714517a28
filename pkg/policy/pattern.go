package policy

import (
	"regexp"
	"strings"
	"sync"
)

// pattern is one resource pattern of a policy. It is compiled at its first use.
type pattern struct {
	source string

	once       sync.Once
	expression *regexp.Regexp
	err        error
}

// compiled returns the regular expression, or an error when the pattern is not
// one.
func (p *pattern) compiled() (*regexp.Regexp, error) {
	p.once.Do(func() { p.expression, p.err = regexp.Compile(anchored(p.source)) })
	return p.expression, p.err
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
