package imagesignature

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// A log that answers nonsense is named in an error, and ends nothing.
func TestALogThatAnswersNonsense(t *testing.T) {
	for name, answer := range map[string]string{
		"no entry": `{}`, "an empty entry": `{"id":{"body":""}}`, "no JSON": `<html>`,
	} {
		t.Run(name, func(t *testing.T) {
			log := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("ETag", "id")
				w.WriteHeader(http.StatusCreated)
				_, _ = io.WriteString(w, answer)
			}))
			defer log.Close()
			signature, err := Sign(t.Context(), digest.FromString("image"), newKey(t), Options{RekorURL: log.URL})
			if err == nil || !strings.Contains(err.Error(), "transparency log "+log.URL) {
				t.Errorf("got %q and %v", signature, err)
			}
		})
	}
}
