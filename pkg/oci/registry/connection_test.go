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

// What is not there is asked for without a new connection each time.
func TestAConnectionIsUsedAgainAfterAnError(t *testing.T) {
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
	contact := connections.Load()
	const asked = 10
	for range asked {
		if _, err := repository.Manifest(t.Context(), "none"); !IsNotFound(err) {
			t.Fatal(err)
		}
	}
	if more := connections.Load() - contact; more > 1 {
		t.Errorf("%d more connections for %d requests", more, asked)
	}
}
