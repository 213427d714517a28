// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
)

// ErrPanicked means that code panicked in this process.
var ErrPanicked = errors.New("the controller panicked; this is a bug in the controller, its log has the stack")

// panicError is a panic that Guard recovered.
type panicError struct {
	text  string
	stack []byte
}

// Error implements error. The text has no value that the code panicked with, unless
// Go's runtime made it: a value can have content of any kind.
func (e *panicError) Error() string { return fmt.Sprintf("%v (%s)", ErrPanicked, e.text) }

// Unwrap makes the error an ErrPanicked.
func (e *panicError) Unwrap() error { return ErrPanicked }

// Guard calls do and turns a panic into an error that wraps ErrPanicked, so that it
// ends the work on one object and not the process. A panic in a goroutine that do
// starts is not recovered.
func Guard(do func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &panicError{text: describe(value), stack: debug.Stack()}
		}
	}()
	return do()
}

func describe(value any) string {
	if err, ok := value.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("a value of type %T", value)
}

// stackOf returns the keys and values of a log line for the stack of a panic.
func stackOf(err error) []any {
	if recovered, ok := errors.AsType[*panicError](err); ok {
		return []any{"stack", string(recovered.stack)}
	}
	return nil
}
