// SPDX-License-Identifier: Apache-2.0

package tekton

import (
	"errors"
	"strings"
	"testing"
)

func TestRelease_Check(t *testing.T) {
	for version, known := range map[string]bool{
		"v1.15.0": true, "v1.10.0": true, "1.12.1": true, "v2.0.0": true, "v1.10.1-rc.1": true,
		"v1.9.9": true, "1.9.0": true, "v1.6.0": true, "v1.6.2": true,
		"devel": true, "": true, "nightly-2026": true, "v1.x": true,
		"v1.5.0": false, "v1.6.0-rc.1": false, "v1.0.0": false, "v0.68.1": false, "1.3.4": false,
	} {
		err := ReleaseOf(map[string]string{"version": version}).Check()
		if (err == nil) != known {
			t.Errorf("%q: got %v, want known: %v", version, err, known)
		}
		if err != nil && !errors.Is(err, ErrTooOld) {
			t.Errorf("%q: %v does not wrap ErrTooOld", version, err)
		}
		if err != nil && (!strings.Contains(err.Error(), version) || !strings.Contains(err.Error(), "v1.6.0")) {
			t.Errorf("%q: %q does not name what was found and what is expected", version, err)
		}
	}
	if err := ReleaseOf(nil).Check(); err != nil {
		t.Errorf("no version at all: %v", err)
	}
}

func TestRelease_Dialect(t *testing.T) {
	for version, want := range map[string]Dialect{
		"v1.6.2": NullTimestamps, "v1.9.3": NullTimestamps, "1.9.0": NullTimestamps, "v1.9.99": NullTimestamps,
		"v1.10.0": TemplateNames, "v1.10.0-rc.1": TemplateNames, "1.12.0": TemplateNames, "v1.13.9": TemplateNames,
		"v1.14.0": Newest, "v1.14.0-rc.1": Newest, "1.15.0": Newest,
		"v1.99.0": Newest, "v2.0.0": Newest, "devel": Newest, "": Newest,
	} {
		if got := ReleaseOf(map[string]string{"version": version}).Dialect(); got != want {
			t.Errorf("%q: got %s, want %s", version, got, want)
		}
	}
}
