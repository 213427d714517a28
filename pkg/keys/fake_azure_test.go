// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const (
	fakeAzureKey     = "tekton"
	fakeAzureVersion = "0123456789abcdef0123456789abcdef"
)

// startFakeAzure starts a fake of Azure Key Vault with one key, and a fake of the endpoint
// for the identity of a workload, and points the client there.
func startFakeAzure(t *testing.T, key fakeKey) (ref string, p *pin) {
	t.Helper()
	p = &pin{name: "/keys/" + fakeAzureKey + "/" + fakeAzureVersion}
	server := httptest.NewTLSServer(fakeAzure{key, p})
	t.Cleanup(server.Close)
	identity := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answerJSON(w, "application/json", map[string]string{
			"access_token": "token", "token_type": "Bearer", "expires_on": "4102444800", "resource": r.URL.Query().Get("resource"),
		})
	}))
	t.Cleanup(identity.Close)
	for name, value := range map[string]string{
		"IDENTITY_ENDPOINT": identity.URL, "IDENTITY_HEADER": "header", "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
	} {
		t.Setenv(name, value)
	}
	return "azurekms://" + strings.TrimPrefix(server.URL, "https://") + "/" + fakeAzureKey + "/" + fakeAzureVersion, p
}

type fakeAzure struct {
	key fakeKey
	pin *pin
}

func (f fakeAzure) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, isSign := strings.CutSuffix(r.URL.Path, "/sign")
	if !f.pin.allows(r.Method, path) {
		http.Error(w, "{}", http.StatusNotFound)
		return
	}
	if r.Header.Get("Authorization") == "" {
		// The client compares the resource with the end of its host, such as
		// vault.azure.net: the end of 127.0.0.1 is 0.0.1.
		_, end, _ := strings.Cut(r.Host, ".")
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer authorization="https://login.invalid/tenant", resource="https://%s"`, end))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if !isSign {
		answerJSON(w, "application/json", map[string]any{"key": f.jwk("https://" + r.Host + path)})
		return
	}
	var request struct{ Alg, Value string }
	err := json.NewDecoder(r.Body).Decode(&request)
	digest, decodeErr := base64.RawURLEncoding.DecodeString(request.Value)
	signature, signErr := f.sign(digest)
	if err := cmp.Or(err, decodeErr, signErr); err != nil || request.Alg != f.key.algorithm {
		http.Error(w, "{}", http.StatusBadRequest)
		return
	}
	answerJSON(w, "application/json", map[string]string{"value": base64.RawURLEncoding.EncodeToString(signature)})
}

func (f fakeAzure) jwk(id string) map[string]string {
	encode := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
	if public, ok := f.key.Public().(*rsa.PublicKey); ok {
		return map[string]string{"kid": id, "kty": "RSA", "n": encode(public.N.Bytes()), "e": encode(big.NewInt(int64(public.E)).Bytes())}
	}
	public := f.key.Public().(*ecdsa.PublicKey)
	size := (public.Curve.Params().BitSize + 7) / 8
	point, _ := public.Bytes() // the curves are those of the standard library
	return map[string]string{
		"kid": id, "kty": "EC", "crv": public.Curve.Params().Name, "x": encode(point[1 : 1+size]), "y": encode(point[1+size:]),
	}
}

// sign returns an ECDSA signature as Azure does: two numbers of the size of the curve.
func (f fakeAzure) sign(digest []byte) ([]byte, error) {
	signature, err := f.key.sign(digest)
	public, ok := f.key.Public().(*ecdsa.PublicKey)
	if err != nil || !ok {
		return signature, err
	}
	var numbers struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(signature, &numbers); err != nil {
		return nil, err
	}
	size := (public.Curve.Params().BitSize + 7) / 8
	return append(numbers.R.FillBytes(make([]byte, size)), numbers.S.FillBytes(make([]byte, size))...), nil
}
