// SPDX-License-Identifier: Apache-2.0

package admission

import "testing"

// The rows of the table in docs/requester.md.
func TestWrite_Decide(t *testing.T) {
	alice, bob := Requester{RequestedBy: "alice"}, Requester{NotAuthorized: "bob"}
	nobody := Requester{}
	const same, changed = true, false
	for name, tc := range map[string]struct {
		writer        string
		before, after Requester
		content       bool
		asks          bool
		holder, other Effect // for a writer with and without the right
	}{
		"create":                             {"w", nobody, nobody, changed, true, Stamp, Remove},
		"create with a forged value":         {"w", nobody, alice, changed, true, Stamp, Remove},
		"create with a value of its own":     {"w", nobody, Requester{RequestedBy: "w"}, changed, true, Stamp, Remove},
		"change of nothing":                  {"w", alice, alice, same, false, Keep, Keep},
		"change of nothing, nobody known":    {"w", nobody, nobody, same, false, Keep, Keep},
		"change of nothing, not authorized":  {"w", bob, bob, same, false, Keep, Keep},
		"change of the content":              {"w", alice, alice, changed, true, Stamp, Remove},
		"change of the content, value gone":  {"w", alice, nobody, changed, true, Stamp, Remove},
		"change of the content and forgery":  {"w", bob, alice, changed, true, Stamp, Remove},
		"value dropped":                      {"w", alice, nobody, same, false, Restore, Restore},
		"value of another":                   {"w", alice, Requester{RequestedBy: "eve"}, same, true, Stamp, Restore},
		"value forged where nobody is known": {"w", nobody, alice, same, true, Stamp, Restore},
		"approval of an unauthorized change": {"w", bob, Requester{RequestedBy: "w"}, same, true, Stamp, Restore},
		"approval that keeps who asked":      {"w", bob, Requester{"w", "bob"}, same, true, Stamp, Restore},
		"name of who asked forged":           {"w", bob, Requester{NotAuthorized: "eve"}, same, false, Restore, Restore},
		"name of who asked dropped":          {"w", bob, nobody, same, false, Restore, Restore},
	} {
		t.Run(name, func(t *testing.T) {
			w := Write{Writer: tc.writer, Before: tc.before, After: tc.after, SameContent: tc.content}
			if w.NeedsRight() != tc.asks {
				t.Errorf("asks: %v, want %v", w.NeedsRight(), tc.asks)
			}
			results := map[Effect]Requester{
				Keep: tc.after, Restore: tc.before, Stamp: {RequestedBy: "w"}, Remove: {NotAuthorized: "w"},
			}
			for may, want := range map[bool]Effect{true: tc.holder, false: tc.other} {
				if effect, becomes := w.Decide(may); effect != want || becomes != results[want] {
					t.Errorf("right to sign %v: got %s %+v, want %s %+v", may, effect, becomes, want, results[want])
				}
			}
		})
	}
}

// A value names somebody with the right to sign, whatever is written: the writer, or
// whom it named before for the same content.
func FuzzDecide(f *testing.F) {
	f.Add("w", "alice", "", "eve", "bob", true, false)
	f.Fuzz(func(t *testing.T, writer, before, beforeNot, after, afterNot string, same, maySign bool) {
		w := Write{Writer: writer, Before: Requester{before, beforeNot}, After: Requester{after, afterNot}, SameContent: same}
		_, becomes := w.Decide(maySign)
		kept := same && becomes == w.Before
		stamped := maySign && becomes == Requester{RequestedBy: writer}
		if !kept && !stamped && becomes.RequestedBy != "" {
			t.Errorf("%+v, right %v: becomes %+v", w, maySign, becomes)
		}
		if before != "" && beforeNot != "" {
			return // no write makes both
		}
		again := Write{Writer: writer, Before: w.Before, After: becomes, SameContent: same}
		if _, second := again.Decide(maySign); second != becomes {
			t.Errorf("%+v, right %v: the first invocation makes %+v, the second %+v", w, maySign, becomes, second)
		}
	})
}
