// SPDX-License-Identifier: Apache-2.0

package runs

import "testing"

func TestReporter_ReportsNothingBeforeItIsStarted(t *testing.T) {
	if _, wanted := (&Reporter{}).Report(t.Context(), "run"); wanted {
		t.Error("a report is wanted before a controller was constructed")
	}
}
