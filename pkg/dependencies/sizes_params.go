// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"fmt"
	"strings"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
)

// paramReference is how Tekton finds out that a default refers to a parameter.
const paramReference = "$(params."

// costOfSearch is what it costs to find the references in a text with a regular
// expression, in lookups.
const costOfSearch = 20

// paramSizes returns the sizes of the parameters of a Task or StepAction, with the
// values that are given. A default may refer to other parameters. Tekton fills in
// such defaults one after another, so that their sizes multiply.
func paramSizes(declared v1.ParamSpecs, given v1.Params) sizes {
	c := chain{sizes: newSizes(), defaults: map[string]string{}, state: map[string]chainState{}}
	for _, p := range given {
		c.put(p.Name, p.Value)
	}
	for _, p := range declared {
		switch {
		case p.Default == nil:
		case strings.Contains(p.Default.StringVal, paramReference):
			c.defaults[p.Name] += p.Default.StringVal // Tekton refuses two parameters of one name
		default:
			c.put(p.Name, *p.Default)
		}
	}
	for _, p := range declared {
		c.resolve(p.Name)
	}
	c.addCost(len(declared))
	return c.sizes
}

// chain computes the sizes of defaults that refer to other parameters.
type chain struct {
	sizes
	defaults map[string]string
	state    map[string]chainState
	found    int // references
}

type chainState int

const (
	resolving chainState = iota + 1
	resolved
)

// resolve adds the size of a default, after those of the defaults that it refers to.
func (c *chain) resolve(name string) {
	text, chained := c.defaults[name]
	if !chained || c.state[name] == resolved || c.err != nil {
		return
	}
	if c.state[name] == resolving {
		c.err = fmt.Errorf("%w: the default of parameter %.80q refers to itself", errSubstitution, name)
		return
	}
	c.state[name] = resolving
	found := 0
	for reference := range references(text) {
		found++
		c.resolve(strings.TrimPrefix(reference, "params."))
	}
	c.state[name] = resolved
	size := c.expanded(text)
	if c.made += size; c.made > maxSubstitution {
		c.err = tooLarge(c.made)
		return
	}
	c.found += found
	c.cost += found * size / 1024 // Tekton copies the default for each reference
	for _, notation := range taskNotations {
		c.raise(fmt.Sprintf(notation, name), size)
	}
}

// addCost adds what it costs Tekton to make the values: the maps of all
// variables, and a search through all parameters for each reference in a default,
// repeated until no default is left.
func (c *chain) addCost(declared int) {
	const perLookup = 64 // comparisons of names
	defaults := len(c.defaults)
	c.cost += len(c.of) + costOfSearch*defaults + defaults*(c.found+defaults)*declared/perLookup
}

// refersToParam reports whether a value refers to a parameter, or may do so once
// more text follows.
func refersToParam(value string) bool {
	for rest := value; ; {
		at := strings.IndexByte(rest, '$')
		if at < 0 {
			return false
		}
		rest = rest[at:]
		if strings.HasPrefix(rest, paramReference) || strings.HasPrefix(paramReference, rest) {
			return true
		}
		rest = rest[1:]
	}
}
