// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/state"
)

func TestChoosePorts_KeepsPortsWhileFree(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports.json")
	first, err := choosePorts(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, name := range listeners {
		port := first[name]
		if port < lowestPort || port > highestPort || seen[port] {
			t.Errorf("%s has port %d, which is out of range or used twice", name, port)
		}
		seen[port] = true
	}
	again, err := choosePorts(t.Context(), file)
	if err != nil || !maps.Equal(first, again) {
		t.Errorf("the second choice differs: %v, %v; first %v", again, err, first)
	}

	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", first.address("etcd"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	other, err := choosePorts(t.Context(), file)
	if err != nil || other["etcd"] == first["etcd"] {
		t.Errorf("port %d was chosen again although it is in use (%v)", first["etcd"], err)
	}
}

func TestChoosePorts_RejectsInvalidFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports.json")
	if err := os.WriteFile(file, []byte("no JSON"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := choosePorts(t.Context(), file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error %v, want one that names the file", err)
	}
}

func TestEnsureTokens_KeepsTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.csv")
	first, err := ensureTokens(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range users {
		if len(first[u.name]) < 26 { // 128 bits in base32
			t.Errorf("the token of %s is %d characters long", u.name, len(first[u.name]))
		}
	}
	again, err := ensureTokens(file)
	if err != nil || !maps.Equal(first, again) {
		t.Errorf("the second call returned other tokens, or error %v", err)
	}
}

func TestKubeconfig_ReadsBack(t *testing.T) {
	text, err := Kubeconfig("https://127.0.0.1:1", []byte("ca"), "me", "secret")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := RESTConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Host != "https://127.0.0.1:1" || string(cfg.CAData) != "ca" || cfg.BearerToken != "secret" || cfg.QPS >= 0 {
		t.Errorf("got host %s, CA %s, token %s, QPS %v", cfg.Host, cfg.CAData, cfg.BearerToken, cfg.QPS)
	}
}

func TestHTTPReady_RequiresSuccessStatus(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil {
			status = http.StatusBadRequest
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte("because"))
	}))
	defer server.Close()
	if err := httpReady(server.URL+"/200", nil)(t.Context(), time.Now()); err != nil {
		t.Errorf("status 200: %v", err)
	}
	for _, path := range []string{"/500", "/404"} {
		if err := httpReady(server.URL+path, nil)(t.Context(), time.Now()); err == nil || !strings.Contains(err.Error(), "because") {
			t.Errorf("status %s: error %v, want one with the response", path, err)
		}
	}
	server.Close()
	if err := httpReady(server.URL+"/200", nil)(t.Context(), time.Now()); err == nil {
		t.Error("a stopped server counts as ready")
	}
}

func TestNewLayout_MakesDirectoryPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := NewLayout(dir); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %o (%v), want 700", info.Mode().Perm(), err)
	}
}

func TestRun_RejectsSecondSupervisor(t *testing.T) {
	dir := t.TempDir()
	unlock, err := state.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	err = Run(t.Context(), Options{Dir: dir, Module: dir, Bin: dir, NodeKind: NodeKinds[0], Nodes: 1, Out: &strings.Builder{}})
	if !errors.Is(err, state.ErrLocked) {
		t.Errorf("Run: got error %v, want ErrLocked", err)
	}
}

func TestRun_ExplainsStopBeforeReady(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Run(ctx, Options{Dir: dir, Module: dir, Bin: dir, NodeKind: NodeKinds[0], Nodes: 1, Out: &strings.Builder{}})
	if err == nil || !strings.Contains(err.Error(), "before the cluster was ready") {
		t.Errorf("Run with an ended context: got error %v, want one that says that the cluster was not ready", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "state.json")); !os.IsNotExist(err) {
		t.Errorf("state.json exists although the cluster was never ready: %v", err)
	}
}
