// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const raceLog = `{"level":"info","msg":"started"}
==================
WARNING: DATA RACE
Write at 0x00c000012345 by goroutine 7:
  main.first()
==================
{"level":"info","msg":"more"}
==================
WARNING: DATA RACE
Read at 0x00c000012345 by goroutine 8:
  main.second()
==================
`

func TestFirstDataRace_ReturnsFirstReport(t *testing.T) {
	for name, tc := range map[string]struct{ log, want string }{
		"empty log":     {"", ""},
		"no report":     {`{"level":"info","msg":"started"}`, ""},
		"two reports":   {raceLog, "WARNING: DATA RACE\nWrite at 0x00c000012345 by goroutine 7:\n  main.first()\n"},
		"report is cut": {"WARNING: DATA RACE\nWrite at", "WARNING: DATA RACE\nWrite at"},
	} {
		if got := firstDataRace(tc.log); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

// A log holds the output of all controllers of that name. Only the output of this
// controller counts.
func TestController_ReportsItsOwnDataRaces(t *testing.T) {
	dir := t.TempDir()
	cluster := &Cluster{Dir: dir, Binaries: Binaries{Race: true}}
	check(t, os.MkdirAll(filepath.Join(dir, "logs"), 0o700))
	check(t, os.WriteFile(cluster.Log("controller"), []byte(raceLog), 0o600))
	controller := &Controller{Name: "controller", cluster: cluster, logStart: int64(len(raceLog))}
	check(t, controller.checkDataRaces())

	controller.logStart = 0
	err := controller.checkDataRaces()
	if err == nil || !strings.Contains(err.Error(), "main.first()") || !strings.Contains(err.Error(), cluster.Log("controller")) {
		t.Errorf("got error %v, want one with the report and the name of the log", err)
	}
	cluster.Race = false
	check(t, controller.checkDataRaces())
}

func TestTimeLimit_IsLongerOnlyWithRaceDetector(t *testing.T) {
	t.Setenv(RaceVariable, "")
	if got := TimeLimit(time.Second); got != time.Second {
		t.Errorf("without the race detector: got %v, want 1s", got)
	}
	t.Setenv(RaceVariable, "1")
	if got := TimeLimit(time.Second); got != raceSlowdown*time.Second {
		t.Errorf("with the race detector: got %v, want %d s", got, raceSlowdown)
	}
	check(t, checkRaceVariable())
	t.Setenv(RaceVariable, "true")
	if err := checkRaceVariable(); err == nil || !strings.Contains(err.Error(), RaceVariable) {
		t.Errorf("value true: got error %v, want one that names %s", err, RaceVariable)
	}
}
