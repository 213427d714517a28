// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"strings"
	"unicode/utf8"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
)

// sizes are upper bounds of the bytes that references to variables become in one
// substitution. Tekton replaces each reference in a text once, with a value in
// which it replaces nothing before the next substitution.
type sizes struct {
	of    map[string]int // by the name between $( and )
	other int            // of every other variable
	keys  int            // variables that Tekton looks up for each text; 0 for all in of
	lazy  bool           // Tekton's functions see only texts with references
	made  int            // bytes that Tekton makes for the values themselves
	cost  int            // lookups that this takes
	err   error          // why there is no bound
}

func newSizes() sizes { return sizes{of: map[string]int{}} }

// clone returns a copy that does not share variables with the original.
func (s sizes) clone() sizes {
	s.of = maps.Clone(s.of)
	return s
}

// put adds a parameter. A parameter that is put twice has the larger size.
func (s *sizes) put(name string, value v1.ParamValue) {
	if len(s.of) > maxVariables || len(value.ArrayVal) > maxVariables {
		s.err = fmt.Errorf("%w: it has more than %d variables", errSubstitution, maxVariables)
		return
	}
	for _, notation := range taskNotations {
		key := fmt.Sprintf(notation, name)
		switch value.Type {
		case v1.ParamTypeArray:
			s.putWhole(key, value.ArrayVal, len(value.ArrayVal))
			for i, element := range value.ArrayVal {
				s.raise(fmt.Sprintf("%s[%d]", key, i), encodedSize(element))
			}
		case v1.ParamTypeObject:
			s.putWhole(key, value.ObjectVal, len(value.ObjectVal))
			for property, text := range value.ObjectVal {
				s.raise(key+"."+property, encodedSize(text))
			}
		case v1.ParamTypeString:
			fallthrough
		default:
			s.raise(key, encodedSize(value.StringVal))
		}
	}
}

// putTexts adds variables that are no parameters.
func (s *sizes) putTexts(values map[string]string) {
	for key, value := range values {
		s.raise(key, encodedSize(value))
	}
}

// putWhole adds a list or an object. In a when expression Tekton writes a list as
// JSON into a text, which is encoded again when the text is stored.
func (s *sizes) putWhole(key string, value any, elements int) {
	encoded, err := json.Marshal(value)
	if err != nil {
		s.err = err
		return
	}
	size := encodedSize(string(encoded)) + elements*textOverhead
	s.raise(key, size)
	s.raise(key+"[*]", size)
}

func (s *sizes) raise(key string, size int) {
	if strings.ContainsAny(key, "$)") { // references could not be told apart
		s.err = fmt.Errorf("%w: Tekton does not accept the name of the variable %.80q", errSubstitution, key)
		return
	}
	s.of[key] = max(s.of[key], size)
}

// expanded returns an upper bound of the size of a text after one substitution.
func (s sizes) expanded(text string) int {
	size := encodedSize(text)
	for name := range references(text) {
		if known, found := s.of[name]; found {
			size += known
		} else {
			size += s.other
		}
	}
	return size
}

// references returns what each $( in a text refers to, up to the next closing
// bracket. The name is empty if it contains another reference: it is not known
// before that one is replaced.
func references(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for rest := text; ; {
			_, after, found := strings.Cut(rest, "$(")
			if !found {
				return
			}
			rest = after
			name, _, _ := strings.Cut(upToNext(after), ")")
			if len(name) == len(after) {
				return // there is no closing bracket any more
			}
			if name == upToNext(after) {
				name = "" // the next reference begins before the bracket
			}
			if !yield(name) {
				return
			}
		}
	}
}

// upToNext returns the text before the next reference.
func upToNext(text string) string {
	before, _, _ := strings.Cut(text, "$(")
	return before
}

// encodedSize returns an upper bound of the size of a text in JSON, without
// quotation marks.
func encodedSize(text string) int {
	beyondASCII := 2 // bytes; U+2028 takes three, and six in JSON
	if !utf8.ValidString(text) {
		beyondASCII = 6 // each invalid byte becomes \ufffd
	}
	size := 0
	for _, char := range []byte(text) {
		switch {
		case char == '\n', char == '\t', char == '\r', char == '"', char == '\\':
			size += 2
		case char < ' ', char == '<', char == '>', char == '&':
			size += 6
		case char >= utf8.RuneSelf:
			size += beyondASCII
		default:
			size++
		}
	}
	return size
}
