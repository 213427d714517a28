package policy

import (
	"regexp"
	"strings"
)

// pattern is one resource pattern of a policy; err is set when it is no
// regular expression.
type pattern struct {
	expression *regexp.Regexp
	err        error
}

// compile anchors a pattern as Tekton does (getMatchedPolicies in
// pkg/trustedresources): a pattern that begins with ^ and ends with $ is taken
// as it is. So "^a|b$" matches each source that begins with a or ends with b;
// what the cluster enforces is what we report.
func compile(source string) pattern {
	expression, err := regexp.Compile(anchored(source))
	return pattern{expression, err}
}

func anchored(source string) string {
	begins, ends := strings.HasPrefix(source, "^"), strings.HasSuffix(source, "$")
	if begins && ends {
		return source
	}
	// One character each, and none twice: "^" and "$" were handled if both are
	// there.
	if begins {
		source = source[1:]
	}
	if ends {
		source = source[:len(source)-1]
	}
	return "^(?:" + source + ")$"
}

// normalized is the source as policies see it: the git resolver's SPDX prefix
// is not part of the address.
func normalized(source string) string {
	return strings.TrimPrefix(strings.TrimSpace(source), "git+")
}
