// SPDX-License-Identifier: Apache-2.0

package harness

import "testing"

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
