// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
)

// start returns a supervisor with the part "core", its API, and the number of reported changes.
func start(t *testing.T) (*Supervisor, *httptest.Server, *atomic.Int32) {
	t.Helper()
	logs := t.TempDir()
	newSpec := func(req AddRequest) (proc.Spec, error) {
		if len(req.Command) == 0 {
			return proc.Spec{}, errors.New("no command")
		}
		spec := proc.Spec{
			Name: req.Name, Path: req.Command[0], Args: req.Command[1:],
			LogFile: filepath.Join(logs, req.Name), StartTimeout: 300 * time.Millisecond,
		}
		if req.ReadyURL == "never" {
			spec.Ready = func(context.Context, time.Time) error { return errors.New("never") }
		}
		return spec, nil
	}
	upgrade := func(_ context.Context, version string) error {
		if version != "v1.9.2" {
			return fmt.Errorf("no release %q", version)
		}
		return nil
	}
	var changes atomic.Int32
	s := New(func() { changes.Add(1) }, func(proc.Status) {})
	t.Cleanup(func() { s.StopAll(context.Background(), time.Second) })
	core, err := newSpec(AddRequest{Name: "core", Command: []string{"/bin/sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context(), core); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler("secret", newSpec, upgrade))
	t.Cleanup(server.Close)
	return s, server, &changes
}

func states(parts []proc.Status) string {
	all := make([]string, len(parts))
	for i, p := range parts {
		all[i] = p.Name + ":" + string(p.State)
	}
	return strings.Join(all, " ")
}

func TestControlAPI_ChangesParts(t *testing.T) {
	s, server, changes := start(t)
	c := NewClient(server.URL, "secret")
	ctx := t.Context()
	sleep := []string{"/bin/sleep", "1000"}
	for _, step := range []struct {
		name string
		call func() ([]proc.Status, error)
		want string // states afterwards, or part of the error
		fail bool
	}{
		{"list", func() ([]proc.Status, error) { return c.Parts(ctx) }, "core:running", false},
		{"add", func() ([]proc.Status, error) { return c.Add(ctx, AddRequest{Name: "x", Command: sleep}) }, "core:running x:running", false},
		{"add twice", func() ([]proc.Status, error) { return c.Add(ctx, AddRequest{Name: "x", Command: sleep}) }, "exists already", true},
		{"stop", func() ([]proc.Status, error) { return c.Do(ctx, "x", "stop") }, "core:running x:stopped", false},
		{"start", func() ([]proc.Status, error) { return c.Do(ctx, "x", "start") }, "core:running x:running", false},
		{"kill", func() ([]proc.Status, error) { return c.Do(ctx, "core", "kill") }, "core:stopped x:running", false},
		{"restart", func() ([]proc.Status, error) { return c.Do(ctx, "core", "restart") }, "core:running x:running", false},
		{"remove", func() ([]proc.Status, error) { return c.Remove(ctx, "x") }, "core:running", false},
		{"remove again", func() ([]proc.Status, error) { return c.Remove(ctx, "x") }, "no such part", true},
		{"remove a part of the cluster", func() ([]proc.Status, error) { return c.Remove(ctx, "core") }, "belongs to the cluster", true},
		{"unknown part", func() ([]proc.Status, error) { return c.Do(ctx, "y", "stop") }, `no such part: "y"`, true},
		{"unknown action", func() ([]proc.Status, error) { return c.Do(ctx, "core", "dance") }, `unknown action "dance"`, true},
		{"bad name", func() ([]proc.Status, error) { return c.Add(ctx, AddRequest{Name: "../x", Command: sleep}) }, "part name", true},
		{"no command", func() ([]proc.Status, error) { return c.Add(ctx, AddRequest{Name: "x"}) }, "no command", true},
		{"unhealthy part is removed", func() ([]proc.Status, error) {
			return c.Add(ctx, AddRequest{Name: "x", Command: sleep, ReadyURL: "never"})
		}, "not healthy", true},
		{"install a release", func() ([]proc.Status, error) { return c.Upgrade(ctx, "v1.9.2") }, "core:running", false},
		{"install an unknown release", func() ([]proc.Status, error) { return c.Upgrade(ctx, "v0.0.1") }, `no release "v0.0.1"`, true},
		{"list at the end", func() ([]proc.Status, error) { return c.Parts(ctx) }, "core:running", false},
	} {
		parts, err := step.call()
		switch {
		case step.fail && (err == nil || !strings.Contains(err.Error(), step.want)):
			t.Errorf("%s: error %v, want one with %q", step.name, err, step.want)
		case !step.fail && (err != nil || states(parts) != step.want):
			t.Errorf("%s: %q, %v; want %q", step.name, states(parts), err, step.want)
		}
	}
	if changes.Load() == 0 {
		t.Error("no change was reported")
	}
	s.StopAll(ctx, time.Second)
	if got := states(s.Status()); got != "core:stopped" {
		t.Errorf("after StopAll: %q", got)
	}
}

func TestControlAPI_RejectsWrongToken(t *testing.T) {
	_, server, _ := start(t)
	for _, token := range []string{"", "wrong"} {
		if _, err := NewClient(server.URL, token).Do(t.Context(), "core", "kill"); err == nil || !strings.Contains(err.Error(), "token") {
			t.Errorf("token %q: error %v, want a refusal", token, err)
		}
	}
	parts, err := NewClient(server.URL, "secret").Parts(t.Context())
	if err != nil || states(parts) != "core:running" {
		t.Errorf("%q, %v: a request without the token had an effect", states(parts), err)
	}
}
