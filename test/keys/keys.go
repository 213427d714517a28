// Package keys makes signing secrets, good and bad ones, for tests and the demo.
package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sigstore/cosign/v2/pkg/cosign"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

// Names of the files of a signing secret, as the controller reads them.
const (
	CosignKey      = "cosign.key"
	CosignPassword = "cosign.password"
	CosignPub      = "cosign.pub"
	X509Key        = "x509.pem"
)

// Secret is the content of a signing secret by file name.
type Secret map[string][]byte

// Write makes the secret the whole content of dir, the way the kubelet does:
// the files change all at once, behind a symbolic link.
func (s Secret) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	data, err := os.MkdirTemp(dir, "..")
	if err != nil {
		return err
	}
	for name, content := range s {
		if err := os.WriteFile(filepath.Join(data, name), content, 0o600); err != nil {
			return err
		}
	}
	current, link := filepath.Join(dir, "..data"), filepath.Join(dir, "..data_tmp")
	if err := os.Symlink(filepath.Base(data), link); err != nil {
		return err
	}
	if err := os.Rename(link, current); err != nil {
		return err
	}
	for name := range s {
		err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name))
		if err != nil && !os.IsExist(err) {
			return err
		}
	}
	return s.removeOthers(dir)
}

func (s Secret) removeOthers(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if _, kept := s[entry.Name()]; kept || entry.Name()[0] == '.' {
			continue
		}
		if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// CosignSecret is a new key pair as cosign generate-key-pair makes it.
func CosignSecret() (Secret, crypto.PublicKey, error) {
	keys, err := cosign.GenerateKeyPair(func(bool) ([]byte, error) { return []byte("demo"), nil })
	if err != nil {
		return nil, nil, fmt.Errorf("generating a key pair: %w", err)
	}
	public, err := cryptoutils.UnmarshalPEMToPublicKey(keys.PublicBytes)
	if err != nil {
		return nil, nil, err
	}
	return Secret{CosignKey: keys.PrivateBytes, CosignPassword: []byte("demo"), CosignPub: keys.PublicBytes}, public, nil
}

// Ed25519CosignSecret is a key pair that cosign loads and Tekton cannot verify.
func Ed25519CosignSecret() (Secret, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp("", "ed25519-*.pem")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	if err := pem.Encode(file, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	keys, err := cosign.ImportKeyPair(file.Name(), func(bool) ([]byte, error) { return []byte("demo"), nil })
	if err != nil {
		return nil, fmt.Errorf("importing an Ed25519 key: %w", err)
	}
	return Secret{CosignKey: keys.PrivateBytes, CosignPassword: []byte("demo")}, nil
}

// X509Secret is a new ECDSA P-256 key as x509.pem.
func X509Secret() (Secret, crypto.PublicKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	secret, err := pkcs8(key)
	return secret, key.Public(), err
}

// RSASecret is an RSA key where Chains takes ECDSA only.
func RSASecret() (Secret, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	return pkcs8(key)
}

func pkcs8(key crypto.PrivateKey) (Secret, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return Secret{X509Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}, nil
}
