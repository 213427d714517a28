// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"

	"golang.org/x/sync/semaphore"
)

// The bounds of all substitutions for one run. The result of an honest run is a
// spec in its status, and etcd accepts objects of up to 1.5 MiB. A run that a
// tenant made for the purpose multiplies its size in each substitution. Why the
// bounds are checked before Tekton's functions run: docs/design/0014-bounds.md.
const (
	maxSubstitution  = 4 << 20  // bytes of JSON that one substitution may make
	maxSubstitutions = 32 << 20 // bytes of JSON that all substitutions may make
	maxLookups       = 4 << 20  // texts times variables, over all substitutions
	maxVariables     = 20_000   // of one run
)

// maxReplays bounds the replays that run at a time in this process. Each holds a
// few specs of up to maxSubstitution bytes.
const maxReplays = 2

var replays = semaphore.NewWeighted(maxReplays)

// textOverhead is the memory that a text takes besides its bytes.
const textOverhead = 16

var errSubstitution = errors.New("the run cannot be replayed")

// budget is what the substitutions for one run may still use.
type budget struct {
	bytes, lookups int
	err            error // why allow refused a substitution for the first time
}

func newBudget() *budget { return &budget{bytes: maxSubstitutions, lookups: maxLookups} }

// spend takes bytes and lookups from the budget.
func (b *budget) spend(bytes, lookups int) error {
	b.bytes -= bytes
	b.lookups -= lookups
	switch {
	case b.bytes < 0:
		return fmt.Errorf("%w: its variables make more than %d bytes in all", errSubstitution, maxSubstitutions)
	case b.lookups < 0:
		return fmt.Errorf("%w: its texts times its variables are more than %d", errSubstitution, maxLookups)
	}
	return nil
}

// allow returns an error unless one substitution in all texts of the values stays
// within the bounds. The caller then calls Tekton's function.
func (b *budget) allow(vars sizes, values ...any) error {
	size, err := b.measure(vars, values...)
	if err == nil && size > maxSubstitution {
		err = tooLarge(size)
	}
	if b.err == nil {
		b.err = err
	}
	return err
}

// measure returns an upper bound of the bytes that the values take after one
// substitution, and takes the cost from the budget.
func (b *budget) measure(vars sizes, values ...any) (size int, err error) {
	if vars.err != nil {
		return 0, vars.err
	}
	texts, made := 0, vars.made
	for _, value := range values {
		eachText(reflect.ValueOf(value), func(text string) {
			after := vars.expanded(text)
			size += after + textOverhead
			if hasReference(text) {
				made += after
			}
			if hasReference(text) || !vars.lazy {
				texts++
			}
		})
	}
	return size, b.spend(made, vars.cost+texts*cmp.Or(vars.keys, len(vars.of)))
}

func tooLarge(size int) error {
	return fmt.Errorf("%w: its variables make %d bytes of one spec, expected at most %d", errSubstitution, size, maxSubstitution)
}

// eachText visits all texts in a value.
func eachText(value reflect.Value, visit func(string)) {
	kind := value.Kind()
	switch {
	case kind == reflect.String:
		visit(value.String())
	case (kind == reflect.Pointer || kind == reflect.Interface) && !value.IsNil():
		eachText(value.Elem(), visit)
	case (kind == reflect.Slice || kind == reflect.Array) && value.Type().Elem().Kind() != reflect.Uint8:
		for i := range value.Len() {
			eachText(value.Index(i), visit)
		}
	case kind == reflect.Map:
		for entries := value.MapRange(); entries.Next(); {
			eachText(entries.Key(), visit)
			eachText(entries.Value(), visit)
		}
	case kind == reflect.Struct:
		for i := range value.NumField() {
			if value.Type().Field(i).IsExported() {
				eachText(value.Field(i), visit)
			}
		}
	}
}
