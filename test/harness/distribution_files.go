// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/bcrypt"
	"sigs.k8s.io/yaml"
)

func (d *Distribution) configFile() string { return filepath.Join(d.dir, "config.yaml") }

// writeFiles writes the configuration of the program and sets up the transport for
// clients.
func (d *Distribution) writeFiles(options DistributionOptions) error {
	type section map[string]any
	listen := section{"addr": d.host}
	config := section{
		"version": "0.1",
		"storage": section{
			"filesystem": section{"rootdirectory": filepath.Join(d.dir, "content")},
			"delete":     section{"enabled": true},
		},
		"http": listen,
	}
	if options.TLS {
		key := filepath.Join(d.dir, "key.pem")
		d.ca = filepath.Join(d.dir, "certificate.pem")
		if err := d.writeCertificate(key); err != nil {
			return err
		}
		listen["tls"] = section{"certificate": d.ca, "key": key}
	}
	if len(options.Users) > 0 {
		file := filepath.Join(d.dir, "htpasswd")
		if err := writePasswords(file, options.Users); err != nil {
			return err
		}
		config["auth"] = section{"htpasswd": section{"realm": "tests", "path": file}}
	}
	content, err := yaml.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(d.configFile(), content, 0o600)
}

// writeCertificate writes a self-signed certificate for the loopback interface to the
// file CA, and its key to keyFile.
func (d *Distribution) writeCertificate(keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test registry"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(d.ca, "CERTIFICATE", certificate); err != nil {
		return err
	}
	parsed, err := x509.ParseCertificate(certificate)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	d.transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return writePEM(keyFile, "PRIVATE KEY", der)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// writePasswords writes a file like htpasswd -B does, with the lowest cost of bcrypt,
// because the program checks the password on each request.
func writePasswords(file string, passwords map[string]string) error {
	var lines bytes.Buffer
	for user, password := range passwords {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			return err
		}
		fmt.Fprintf(&lines, "%s:%s\n", user, hash)
	}
	return os.WriteFile(file, lines.Bytes(), 0o600)
}
