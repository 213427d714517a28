// SPDX-License-Identifier: Apache-2.0

package runs

import "testing"

func TestSignatureWrites_KeepTheVersionOfTheContent(t *testing.T) {
	s := NewSignatureWrites()
	expect := func(version, want string) {
		t.Helper()
		if got := s.contentVersion("uid", version); got != want {
			t.Errorf("the content of version %s is that of version %s, want %s", version, got, want)
		}
	}
	expect("10", "10")
	s.Wrote("uid", "10", "20")
	expect("20", "10")
	s.Wrote("uid", "20", "30")
	expect("30", "10")
	expect("25", "25") // somebody else's
	s.Wrote("uid", "40", "50")
	expect("50", "40") // version 40 is not ours
	s.Wrote("other", "50", "60")
	expect("50", "40")
}
