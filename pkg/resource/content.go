// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"bytes"
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Bounds of YAML and JSON that somebody else wrote. An object takes two bytes, such
// as the empty step in "-\n", and about 1 kB when it is decoded. An alias takes
// three bytes and stands for a text of any size.
const (
	// MaxElements is the largest result of Elements.
	MaxElements = 512 << 10
	maxDecoded  = 64 << 10 // objects
	maxExpanded = 4 << 20  // bytes
)

// ErrExpands means that content takes far more memory than its size once it is
// decoded.
var ErrExpands = errors.New("the content expands too much")

// Elements returns an upper bound of the objects in YAML or JSON, and of the nulls
// in place of an object. In YAML it does not tell objects from other elements and
// from text, so that CheckContent may find fewer. The error wraps ErrExpands.
func Elements(content []byte) (int, error) {
	elements := 1
	if isJSON(content) {
		elements += objectsOfJSON(content)
	} else {
		for _, separator := range []string{"\n", ",", "[", "{"} {
			elements += bytes.Count(content, []byte(separator))
		}
	}
	return elements, atMost(MaxElements, elements)
}

func atMost(limit, found int) error {
	if found > limit {
		return fmt.Errorf("%w: found %d objects, expected at most %d", ErrExpands, found, limit)
	}
	return nil
}

// isJSON reports whether Kubernetes' decoder takes the content for JSON.
func isJSON(content []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(content), []byte("{")) }

func objectsOfJSON(content []byte) (objects int) {
	quoted := false
	for i := 0; i < len(content); i++ {
		switch char := content[i]; {
		case quoted && char == '\\':
			i++
		case char == '"':
			quoted = !quoted
		case !quoted && (char == '{' || char == 'n'): // of null
			objects++
		}
	}
	return objects
}

// CheckContent returns an error that wraps ErrExpands if YAML or JSON expands too
// much when it is decoded into a resource. elements is the result of Elements.
func CheckContent(content []byte, elements int) error {
	if isJSON(content) {
		return atMost(maxDecoded, elements)
	}
	if elements <= maxDecoded && !bytes.Contains(content, []byte("*")) {
		return nil // there are no aliases
	}
	var document yaml.Node
	if err := yaml.Unmarshal(content, &document); err != nil {
		return err
	}
	found := (expansions{}).of(&document)
	if found.bytes > maxExpanded {
		return fmt.Errorf("%w: its YAML aliases make more than %d bytes", ErrExpands, maxExpanded)
	}
	return atMost(maxDecoded, found.objects)
}

// expansion is what a node of YAML becomes.
type expansion struct{ bytes, objects int }

var endless = expansion{bytes: maxExpanded + 1, objects: maxDecoded + 1}

// expansions has the nodes that were visited. A node that is being visited is
// endless: an alias in the node refers to the node itself.
type expansions map[*yaml.Node]expansion

func (e expansions) of(node *yaml.Node) expansion {
	if known, visited := e[node]; visited {
		return known
	}
	e[node] = endless
	sum := expansion{bytes: len(node.Value) + 1}
	if node.Kind == yaml.MappingNode || node.Tag == "!!null" {
		sum.objects = 1
	}
	add := func(more expansion) {
		sum.bytes = min(sum.bytes+more.bytes, endless.bytes)
		sum.objects = min(sum.objects+more.objects, endless.objects)
	}
	if node.Alias != nil {
		add(e.of(node.Alias))
	}
	for _, child := range node.Content {
		add(e.of(child))
	}
	e[node] = sum
	return sum
}
