// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

const (
	fakeRole, fakeJWT = "signer", "s3cr3t-jwt"
	// tokenPrefix is in each token that fakeVault accepts.
	tokenPrefix = "s3cr3t-token-"
)

// fakeVault answers as HashiCorp Vault does, as far as a signer needs it: for failures that
// a real Vault cannot be made to have, and for tests without the time to build one. The
// tests with the tag kms use a real one.
type fakeVault struct {
	address string

	mu       sync.Mutex
	keyType  string
	versions []fakeKey // the first one is version 1
	min      int       // min_decryption_version
	signs    int       // version that signs whatever a client asks for, 0 for none
	tokens   []string
	used     string // the last token that a client had
	logins   int
	sealed   bool
	hangs    chan struct{} // until it is closed; nil for not
	asked    []string      // versions that clients asked to sign with
}

// startFakeVault starts a fake with the key hashivault://tekton and a token.
func startFakeVault(t *testing.T, versions ...fakeKey) *fakeVault {
	t.Helper()
	f := &fakeVault{keyType: "ecdsa-p256", versions: versions, min: 1, tokens: []string{tokenPrefix + "0"}}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.address = server.URL
	for _, name := range []string{"VAULT_TOKEN", "BAO_TOKEN", "VAULT_ADDR", "BAO_ADDR"} {
		t.Setenv(name, "")
	}
	return f
}

// set changes the fake.
func (f *fakeVault) set(change func(*fakeVault)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	hangs := f.hangs
	f.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used = r.Header.Get("X-Vault-Token")
	known := slices.Contains(f.tokens, f.used)
	switch path := strings.TrimPrefix(r.URL.Path, "/v1/"); {
	case f.sealed:
		refuseVault(w, http.StatusServiceUnavailable, "Vault is sealed")
	case path == "auth/jwt/login":
		f.login(w, r)
	case !known:
		refuseVault(w, http.StatusForbidden, "permission denied")
	case path == "transit/keys/tekton":
		f.read(w)
	case path == "transit/sign/tekton/sha2-256":
		f.sign(w, r)
	default:
		http.Error(w, `{"errors":[]}`, http.StatusNotFound)
	}
}

func (f *fakeVault) login(w http.ResponseWriter, r *http.Request) {
	var request struct{ Role, JWT string }
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || request.Role != fakeRole || request.JWT != fakeJWT {
		refuseVault(w, http.StatusBadRequest, "invalid role or token")
		return
	}
	f.logins++
	token := fmt.Sprintf("%s%d", tokenPrefix, f.logins)
	f.tokens = append(f.tokens, token)
	answerJSON(w, "application/json", map[string]any{"auth": map[string]string{"client_token": token}})
}

func (f *fakeVault) read(w http.ResponseWriter) {
	versions := map[string]any{}
	for i, key := range f.versions {
		if i+1 >= f.min {
			public, _ := cryptoutils.MarshalPublicKeyToPEM(key.Public()) // a key of this test
			versions[fmt.Sprint(i+1)] = map[string]string{"public_key": string(public)}
		}
	}
	answerJSON(w, "application/json", map[string]any{"data": map[string]any{
		"type": f.keyType, "latest_version": len(f.versions), "min_decryption_version": f.min, "keys": versions,
	}})
}

func (f *fakeVault) sign(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Input      []byte `json:"input"`
		KeyVersion int    `json:"key_version,string"`
	}
	err := json.NewDecoder(r.Body).Decode(&request)
	f.asked = append(f.asked, fmt.Sprint(request.KeyVersion))
	version := request.KeyVersion
	if f.signs != 0 {
		version = f.signs
	}
	if err != nil || version < f.min || version > len(f.versions) {
		refuseVault(w, http.StatusBadRequest, "requested version for signing is not available")
		return
	}
	signature, err := f.versions[version-1].sign(request.Input)
	if err != nil {
		refuseVault(w, http.StatusInternalServerError, err.Error())
		return
	}
	answerJSON(w, "application/json", map[string]any{"data": map[string]string{
		"signature": fmt.Sprintf("vault:v%d:%s", version, base64.StdEncoding.EncodeToString(signature)),
	}})
}

func refuseVault(w http.ResponseWriter, status int, problem string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string][]string{"errors": {problem}}) // the client reports an answer that is cut off
}
