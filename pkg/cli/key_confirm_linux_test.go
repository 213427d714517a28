// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal returns the two ends of a pseudo-terminal: where a person types, and what a
// command reads.
func openTerminal(t *testing.T) (person, command *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	command, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Close() })
	return person, command
}

func TestConfirm_AsksForTheNameOnATerminal(t *testing.T) {
	for answer, says := range map[string]string{"2026\n": "", "2027\n": `the answer is "2027"`, "y\n": `the answer is "y"`, "\n": `the answer is ""`} {
		person, command := openTerminal(t)
		if _, err := person.WriteString(answer); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err := confirm(command, &out, "2026")
		if (says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("answer %q: got %v, want %q", answer, err, says)
		}
		if !strings.Contains(out.String(), "Write the name of the key") {
			t.Errorf("the question is %q", out.String())
		}
	}
	if err := confirm(strings.NewReader("2026\n"), &bytes.Buffer{}, "2026"); err == nil || !strings.Contains(err.Error(), "no terminal") {
		t.Errorf("without a terminal: got %v", err)
	}
}
