// SPDX-License-Identifier: Apache-2.0

package imagesignature

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// A malformed response must not panic, and the error must name the log.
func TestSign_RejectsMalformedLogResponse(t *testing.T) {
	for name, response := range map[string]string{
		"no entry": `{}`, "empty entry": `{"id":{"body":""}}`, "not JSON": `<html>`,
	} {
		t.Run(name, func(t *testing.T) {
			log := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("ETag", "id")
				w.WriteHeader(http.StatusCreated)
				_, _ = io.WriteString(w, response)
			}))
			defer log.Close()
			signature, err := Sign(t.Context(), digest.FromString("image"), newKey(t), Options{RekorURL: log.URL})
			if err == nil || !strings.Contains(err.Error(), "transparency log "+log.URL) {
				t.Errorf("got %q and %v", signature, err)
			}
		})
	}
}
