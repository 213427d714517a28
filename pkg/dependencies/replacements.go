// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"fmt"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
)

// replacements are the values of variables, by name of the variable.
type replacements struct {
	texts   map[string]string
	lists   map[string][]string
	objects map[string]map[string]string
}

func newReplacements() replacements {
	return replacements{texts: map[string]string{}, lists: map[string][]string{}, objects: map[string]map[string]string{}}
}

// The notations of a reference to a property of an object, after the name of the
// object.
const dotted, bracketed = "%s.%s", "%s[%s]"

// put adds a value: under its name, and each element of a list and each property of
// an object under the name of that one.
func (r replacements) put(name string, value v1.ParamValue, property string) {
	switch value.Type {
	case v1.ParamTypeArray:
		r.lists[name] = value.ArrayVal
		for i, element := range value.ArrayVal {
			r.texts[fmt.Sprintf("%s[%d]", name, i)] = element
		}
	case v1.ParamTypeObject:
		r.objects[name] = value.ObjectVal
		for key, text := range value.ObjectVal {
			r.texts[fmt.Sprintf(property, name, key)] = text
		}
	case v1.ParamTypeString:
		fallthrough
	default:
		r.texts[name] = value.StringVal
	}
}

// sizes returns the sizes of the values.
func (r replacements) sizes() sizes {
	s := newSizes()
	s.putTexts(r.texts)
	for name, list := range r.lists {
		s.putWhole(name, list, len(list))
	}
	for name, object := range r.objects {
		s.putWhole(name, object, len(object))
	}
	return s
}
