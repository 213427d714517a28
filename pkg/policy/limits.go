// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"regexp/syntax"
)

// The bounds of what is evaluated for one source. Tekton has none: a verdict beyond
// the bounds is Failed with PolicyInvalid, also where Tekton verifies the resource.
const (
	maxPolicies    = 1_000  // of one namespace
	maxPatterns    = 10_000 // of all policies of one namespace
	maxAuthorities = 500    // of all policies that match
	maxSource      = 4 << 10
	// maxPattern bounds the bytes of one pattern, and maxPrograms the instructions of
	// all regular expressions: each may run once for each byte of the source.
	maxPattern  = 4 << 10
	maxPrograms = 50_000
)

// errLimit means that policies are not evaluated because they are too many or too
// large.
var errLimit = errors.New("the policies of the namespace are not evaluated")

// limits counts what was evaluated for one source.
type limits struct{ policies, patterns, authorities, programs int }

func (l *limits) addPolicy(source string) error {
	l.policies++
	return errors.Join(bounded("policies", l.policies, maxPolicies), bounded("bytes of the source", len(source), maxSource))
}

func (l *limits) addPattern() error {
	l.patterns++
	return bounded("patterns", l.patterns, maxPatterns)
}

func (l *limits) addAuthorities(n int) error {
	l.authorities += n
	return bounded("authorities", l.authorities, maxAuthorities)
}

// allow counts a regular expression before it is compiled.
func (l *limits) allow(expression string) error {
	if err := bounded("bytes of a pattern", len(expression), maxPattern); err != nil {
		return err
	}
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return err
	}
	l.programs += instructions(parsed)
	return bounded("instructions of all patterns", l.programs, maxPrograms)
}

// instructions returns an upper bound of the size of a compiled expression, at most
// maxPrograms+1. Ranges of characters count as instructions.
func instructions(expression *syntax.Regexp) int {
	size := 2 + len(expression.Rune)
	for _, part := range expression.Sub {
		size = min(size+instructions(part), maxPrograms+1)
	}
	if expression.Op == syntax.OpRepeat {
		size *= max(expression.Max, expression.Min+1) // Max is -1 without an upper bound
	}
	return min(size, maxPrograms+1)
}

func bounded(what string, found, most int) error {
	if found > most {
		return fmt.Errorf("%w: found %d %s, expected at most %d", errLimit, found, what, most)
	}
	return nil
}
