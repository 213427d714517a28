// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
)

func TestState_ReadReturnsWrittenState(t *testing.T) {
	dir := t.TempDir()
	want := State{
		PID: 7, Control: "http://127.0.0.1:1", Token: "t", Kubeconfig: "k", Ports: map[string]int{"etcd": 2},
		Parts: []proc.Status{{Name: "etcd", PID: 8, State: proc.Running, Since: time.Unix(9, 0).UTC(), Log: "l"}},
	}
	if err := Write(dir, want); err != nil {
		t.Fatal(err)
	}
	got, err := Read(dir)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Read = %+v, %v; want %+v", got, err, want)
	}
	info, err := os.Stat(file(dir))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o, want 600: the file holds a token", info.Mode().Perm())
	}
	for range 2 { // removing a missing file is not an error
		if err := Remove(dir); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Read(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read after Remove: %v, want fs.ErrNotExist", err)
	}
}

func TestRead_RejectsInvalidJSON(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(file(dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "state.json") {
		t.Errorf("Read = %v, want an error that names the file", err)
	}
}

func TestWriteFile_LeavesNoTemporaryFile(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"one", "two"} {
		if err := WriteFile(filepath.Join(dir, "f"), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "f"))
	if err != nil || string(data) != "two" || len(entries) != 1 {
		t.Errorf("content %q (%v) and %d entries, want %q alone", data, err, len(entries), "two")
	}
}

func TestLock_IsExclusive(t *testing.T) {
	dir := t.TempDir()
	if pid, err := Supervisor(dir); pid != 0 || err != nil {
		t.Fatalf("Supervisor of an unused directory = %d, %v", pid, err)
	}
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("second Lock: %v, want ErrLocked", err)
	}
	if pid, err := Supervisor(dir); pid != os.Getpid() || err != nil {
		t.Errorf("Supervisor = %d, %v; want this process, %d", pid, err, os.Getpid())
	}
	unlock()
	if pid, err := Supervisor(dir); pid != 0 || err != nil {
		t.Errorf("Supervisor after unlock = %d, %v", pid, err)
	}
}

func TestSupervisor_ReturnsZeroForMissingDirectory(t *testing.T) {
	if pid, err := Supervisor(filepath.Join(t.TempDir(), "none")); pid != 0 || err != nil {
		t.Errorf("Supervisor = %d, %v; want none", pid, err)
	}
}
