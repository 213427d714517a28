// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The fakes in this package are not the services of AWS, Google and Microsoft. They answer
// the requests of the real clients on loopback, in the shape that the documentation of the
// services gives, as far as these clients need it. They cannot show that a service behaves
// as its documentation says.

// TestMain makes the clients of clouds trust the certificate of servers of httptest, which
// is always the same.
func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	server := httptest.NewTLSServer(nil)
	certificate := server.Certificate()
	server.Close()
	dir, err := os.MkdirTemp("", "keys")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		file := filepath.Join(dir, "ca.pem")
		err = os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}), 0o600)
		err = cmp.Or(err, os.Setenv("SSL_CERT_FILE", file))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// fakeKey is one version of a key at a fake service. It signs as the algorithm of the
// service says.
type fakeKey struct {
	crypto.Signer

	algorithm string // as the service calls it
	hash      crypto.Hash
	pss       bool
}

func (k fakeKey) sign(digest []byte) ([]byte, error) {
	var opts crypto.SignerOpts = k.hash
	if k.pss {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: k.hash}
	}
	return k.Sign(rand.Reader, digest, opts)
}

func ecdsaKey(t *testing.T, curve elliptic.Curve, algorithm string, hash crypto.Hash) fakeKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	check(t, err)
	return fakeKey{Signer: key, algorithm: algorithm, hash: hash}
}

func rsaKey(t *testing.T, algorithm string, pss bool) fakeKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	return fakeKey{Signer: key, algorithm: algorithm, hash: crypto.SHA256, pss: pss}
}

// pin is the only version of a key that a fake serves. It notes every call that names
// another version, or none.
type pin struct {
	name string

	mu       sync.Mutex
	calls    int
	unpinned []string
}

// allows reports whether a call names the version.
func (p *pin) allows(call, name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if name == p.name {
		return true
	}
	p.unpinned = append(p.unpinned, call+" "+name)
	return false
}

func (p *pin) seen() (calls int, unpinned []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls, slices.Clone(p.unpinned)
}

// expectPinned fails the test if a call named no version.
func (p *pin) expectPinned(t *testing.T) {
	t.Helper()
	switch calls, unpinned := p.seen(); {
	case len(unpinned) > 0:
		t.Errorf("calls without the version: %s", strings.Join(unpinned, ", "))
	case calls == 0:
		t.Error("the fake was not called")
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
