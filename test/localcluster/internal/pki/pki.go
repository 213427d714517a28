// SPDX-License-Identifier: Apache-2.0

// Package pki makes the keys and certificates of a temporary cluster: a certificate authority, one serving
// certificate for all servers, a client certificate for etcd, and a key that signs service account tokens.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// validity is longer than a temporary cluster exists.
const validity = 365 * 24 * time.Hour

// Files are the paths of the PEM files in a directory.
type Files struct {
	CA                        string // certificate only; the key of the authority is never written
	ServingCert, ServingKey   string
	EtcdCert, EtcdKey         string // client certificate for etcd
	ServiceAccountKey         string // private key
	ServiceAccountKeyVerifier string // its public key
}

func files(dir string) Files {
	in := func(name string) string { return filepath.Join(dir, name) }
	return Files{
		CA:          in("ca.crt"),
		ServingCert: in("serving.crt"), ServingKey: in("serving.key"),
		EtcdCert: in("etcd-client.crt"), EtcdKey: in("etcd-client.key"),
		ServiceAccountKey: in("service-account.key"), ServiceAccountKeyVerifier: in("service-account.pub"),
	}
}

// Ensure returns the files in dir. It writes them unless the last one exists already. Existing files are kept, so
// kubeconfigs and tokens of an earlier run stay valid.
func Ensure(dir string) (Files, error) {
	f := files(dir)
	_, err := os.Stat(f.ServiceAccountKeyVerifier)
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return f, err
	}
	if err := generate(f); err != nil {
		return f, fmt.Errorf("make certificates in %s: %w", dir, err)
	}
	return f, nil
}

func generate(f Files) error {
	now := time.Now().Add(-time.Minute) // tolerate a clock that is set back a little
	authority := &x509.Certificate{
		Subject: pkix.Name{CommonName: "localcluster"}, NotBefore: now, NotAfter: now.Add(validity),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	serving := &x509.Certificate{
		Subject: pkix.Name{CommonName: "localcluster-serving"}, NotBefore: now, NotAfter: now.Add(validity),
		KeyUsage: x509.KeyUsageDigitalSignature,
		// etcd members also use it as a client certificate for each other.
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	client := &x509.Certificate{
		Subject: pkix.Name{CommonName: "localcluster-etcd-client"}, NotBefore: now, NotAfter: now.Add(validity),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}

	caKey, err := newKey()
	if err != nil {
		return err
	}
	if err := issue(f.CA, "", authority, caKey, authority, caKey); err != nil {
		return err
	}
	for _, leaf := range []struct {
		cert, key string
		template  *x509.Certificate
	}{
		{f.ServingCert, f.ServingKey, serving},
		{f.EtcdCert, f.EtcdKey, client},
	} {
		key, err := newKey()
		if err != nil {
			return err
		}
		if err := issue(leaf.cert, leaf.key, leaf.template, key, authority, caKey); err != nil {
			return err
		}
	}
	return serviceAccountKeys(f)
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// issue signs a certificate and writes it. It also writes the key unless keyFile is empty.
func issue(certFile, keyFile string, template *x509.Certificate, key *ecdsa.PrivateKey, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) error {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return fmt.Errorf("sign %s: %w", template.Subject.CommonName, err)
	}
	if err := writePEM(certFile, "CERTIFICATE", der); err != nil || keyFile == "" {
		return err
	}
	return writeKey(keyFile, key)
}

func serviceAccountKeys(f Files) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	if err := writeKey(f.ServiceAccountKey, key); err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	return writePEM(f.ServiceAccountKeyVerifier, "PUBLIC KEY", der)
}

func writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(file, "EC PRIVATE KEY", der)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// ClientTLS returns a configuration that trusts the cluster's authority and has the etcd client certificate.
func (f Files) ClientTLS() (*tls.Config, error) {
	ca, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no certificate", f.CA)
	}
	pair, err := tls.LoadX509KeyPair(f.EtcdCert, f.EtcdKey)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{pair}}, nil
}
