// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func TestManifest_ReusesConnectionAfterNotFound(t *testing.T) {
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}`+"\n")
		}
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	repository, err := NewClient(Options{}).Repository(t.Context(), strings.TrimPrefix(server.URL, "http://")+"/tekton")
	if err != nil {
		t.Fatal(err)
	}
	before := connections.Load()
	const requests = 10
	for range requests {
		if _, err := repository.Manifest(t.Context(), "none"); !IsNotFound(err) {
			t.Fatal(err)
		}
	}
	if opened := connections.Load() - before; opened > 1 {
		t.Errorf("opened %d connections for %d requests", opened, requests)
	}
}
