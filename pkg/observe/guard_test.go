// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"errors"
	"strings"
	"testing"
)

func TestGuard_TurnsPanicsIntoErrors(t *testing.T) {
	failed := errors.New("failed")
	if err := Guard(func() error { return failed }); !errors.Is(err, failed) || errors.Is(err, ErrPanicked) {
		t.Errorf("an error became %v", err)
	}
	if err := Guard(func() error { return nil }); err != nil {
		t.Errorf("success became %v", err)
	}
	var nothing *panicError
	for name, tc := range map[string]struct {
		do   func() error
		want string
	}{
		"nil pointer": {func() error { nothing.text = ""; return nil }, "nil pointer dereference"},
		"a text":      {func() error { panic("s3cr3t") }, "a value of type string"},
		"an error":    {func() error { panic(errors.New("s3cr3t")) }, "errorString"},
	} {
		err := Guard(tc.do)
		if !errors.Is(err, ErrPanicked) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: got %v, want an error that says %q and nothing of the value", name, err, tc.want)
		}
		if stack := stackOf(err); len(stack) != 2 || !strings.Contains(stack[1].(string), "guard_test.go") {
			t.Errorf("%s: the stack is %v", name, stack)
		}
	}
}
