package oci

import (
	"bytes"
	"crypto"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/tektoncd/chains/pkg/chains/signing"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/pkg/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/keys"
)

// world is a store in a registry that counts its requests.
type world struct {
	*testing.T
	*Store
	host     string
	requests []string
}

func newWorld(t *testing.T, options ...ggcr.Option) *world {
	t.Helper()
	w := &world{T: t}
	handler := ggcr.New(append(options, ggcr.Logger(log.New(io.Discard, "", 0)))...)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.requests = append(w.requests, r.Method+" "+r.URL.Path)
		handler.ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	w.host = strings.TrimPrefix(server.URL, "http://")
	w.Store = &Store{Registry: registry.NewClient(registry.Options{}), Prefix: w.host + "/tekton"}
	return w
}

func newKey(t *testing.T) (*keyring.Key, crypto.PublicKey) {
	t.Helper()
	secret, public, err := keys.X509Secret()
	dir := t.TempDir()
	if err := errors.Join(err, secret.Write(dir)); err != nil {
		t.Fatal(err)
	}
	keeper := keyring.NewKeeper(dir, func() {})
	keeper.Configure(t.Context(), keyring.Settings{SignerTypes: []string{signing.TypeX509}})
	key, err := keeper.Ring().Active(signing.TypeX509)
	if err != nil {
		t.Fatal(err)
	}
	return key, public
}

func trusting(t *testing.T, public ...crypto.PublicKey) *keyring.Ring {
	t.Helper()
	ring, err := keyring.Trusting(public...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func newTask(name, script string) *v1.Task {
	return &v1.Task{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name, Labels: map[string]string{"a": "b"}},
		Spec:       v1.TaskSpec{Steps: []v1.Step{{Name: "run", Image: "busybox", Script: script}}},
	}
}

func (w *world) put(obj resource.Object, key *keyring.Key) Stored {
	w.Helper()
	stored, err := w.Put(w.Context(), obj, nil, key)
	if err != nil {
		w.Fatal(err)
	}
	return stored
}

// in counts the requests of one call.
func (w *world) in(do func()) int {
	w.requests = nil
	do()
	return len(w.requests)
}

func TestPutAndFind(t *testing.T) {
	for name, options := range map[string][]ggcr.Option{"with referrers": {ggcr.WithReferrersSupport(true)}, "without": nil} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, options...)
			key, public := newKey(t)
			w.put(newTask("other", "make"), key) // the first contact with the repository takes more

			task := newTask("build", "make")
			var stored Stored
			t.Logf("%d requests to store: %v", w.in(func() { stored = w.put(task, key) }), w.requests)
			if n := w.in(func() { stored = w.put(task, key) }); n != 1 || stored.Uploaded {
				t.Errorf("storing it again took %d requests: %v", n, w.requests)
			}
			checksum, _ := resource.Checksum(t.Context(), task)
			var found *Image
			n := w.in(func() {
				var err error
				if found, err = w.Find(t.Context(), IDOf(task), checksum, trusting(t, public)); err != nil {
					t.Fatal(err)
				}
			})
			t.Logf("%d requests to retrieve: %v", n, w.requests)
			if n != 3 || found.Reference != stored.Reference || !bytes.Equal(found.Resources[0].Checksum, checksum) {
				t.Errorf("found %+v with %d requests: %v", found, n, w.requests)
			}
			_, other := newKey(t)
			if _, err := w.Find(t.Context(), IDOf(task), checksum, trusting(t, other)); !errors.Is(err, ErrNotTrusted) {
				t.Errorf("with another key: %v", err)
			}
		})
	}
}
