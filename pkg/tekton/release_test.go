// SPDX-License-Identifier: Apache-2.0

package tekton

import (
	"errors"
	"strings"
	"testing"
)

func TestRelease_Check(t *testing.T) {
	for version, current := range map[string]bool{
		"v1.15.0": true, "v1.10.0": true, "1.12.1": true, "v2.0.0": true, "v1.10.1-rc.1": true,
		"devel": true, "": true, "nightly-2026": true, "v1.x": true,
		"v1.9.9": false, "v1.0.0": false, "v0.68.1": false, "1.9.0": false,
	} {
		err := ReleaseOf(map[string]string{"version": version}).Check()
		if (err == nil) != current {
			t.Errorf("%q: got %v, want current: %v", version, err, current)
		}
		if err != nil && !errors.Is(err, ErrTooOld) {
			t.Errorf("%q: %v does not wrap ErrTooOld", version, err)
		}
		if err != nil && (!strings.Contains(err.Error(), version) || !strings.Contains(err.Error(), "v1.10.0")) {
			t.Errorf("%q: %q does not name what was found and what is expected", version, err)
		}
	}
	if err := ReleaseOf(nil).Check(); err != nil {
		t.Errorf("no version at all: %v", err)
	}
}
