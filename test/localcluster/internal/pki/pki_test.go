// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
)

func TestClientTLS_TrustsOnlyOwnAuthority(t *testing.T) {
	f, err := Ensure(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	client, err := f.ClientTLS()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(f.ServingCert, f.ServingKey)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS = &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		ClientCAs: client.RootCAs, ClientAuth: tls.RequireAndVerifyClientCert,
	}
	server.StartTLS()
	defer server.Close()

	for _, tc := range []struct {
		name   string
		config *tls.Config
		ok     bool
	}{
		{"with the client certificate", client, true},
		{"without a client certificate", &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: client.RootCAs}, false},
		{"without our authority", &tls.Config{MinVersion: tls.VersionTLS12, Certificates: client.Certificates}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// The certificate must contain both localhost and 127.0.0.1.
			for _, host := range []string{"127.0.0.1", "localhost"} {
				if err := get(t, host, server.Listener.Addr(), tc.config); (err == nil) != tc.ok {
					t.Errorf("%s: error %v, want success = %t", host, err, tc.ok)
				}
			}
		})
	}
}

// get makes a request to the port of an address with the given host name.
func get(t *testing.T, host string, addr net.Addr, config *tls.Config) error {
	t.Helper()
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+net.JoinHostPort(host, port), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: config}}).Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func TestEnsure_KeepsExistingFiles(t *testing.T) {
	dir := t.TempDir()
	f, err := Ensure(dir)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(f.CA)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(dir); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(f.CA)
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("the second Ensure wrote a new authority")
	}
	info, err := os.Stat(f.ServiceAccountKey)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the key that signs tokens has mode %o, want 600", info.Mode().Perm())
	}
}
