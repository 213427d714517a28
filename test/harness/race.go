// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// RaceVariable is the environment variable that makes Build build the controller
// with Go's race detector. Set it to 1.
const RaceVariable = "E2E_RACE"

// raceSlowdown is how much longer than usual a test waits for a controller with the
// race detector. Such a program is 2 to 20 times slower while it computes.
const raceSlowdown = 4

// RaceEnabled reports whether the environment asks for a controller with the race
// detector.
func RaceEnabled() bool { return os.Getenv(RaceVariable) == "1" }

// TimeLimit returns how long a test waits for something that takes a controller at
// most limit. With the race detector that is longer.
func TimeLimit(limit time.Duration) time.Duration {
	if RaceEnabled() {
		return raceSlowdown * limit
	}
	return limit
}

// checkRaceVariable rejects values that would silently disable the race detector.
func checkRaceVariable() error {
	switch value := os.Getenv(RaceVariable); value {
	case "", "1":
		return nil
	default:
		return fmt.Errorf("%s is %q: set it to 1 to build the controller with the race detector, or unset it", RaceVariable, value)
	}
}

const (
	// raceReport is in the first line of each report of the race detector.
	raceReport = "WARNING: DATA RACE"
	// raceReportEnd is the line before and after each report.
	raceReportEnd = "=================="
)

// firstDataRace returns the first report of the race detector in a log, or "".
func firstDataRace(log string) string {
	_, report, found := strings.Cut(log, raceReport)
	if !found {
		return ""
	}
	report, _, _ = strings.Cut(report, raceReportEnd)
	return raceReport + report
}
