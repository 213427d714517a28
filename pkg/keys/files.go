// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	chainsx509 "github.com/tektoncd/chains/pkg/chains/signing/x509"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
)

// Names of the files in the signing secret, as in Tekton Chains.
const (
	x509File           = "x509.pem"
	cosignFile         = "cosign.key"
	cosignPasswordFile = "cosign.password"
	// retiredPattern matches the public keys of retired keys. It also matches
	// cosign.pub, which can be the public key of the active key.
	retiredPattern = "*.pub"
)

const (
	maxKeyFile     = 64 << 10
	maxRetiredKeys = 32
)

// files are the contents of the key files in the signing secret, by base name.
type files map[string][]byte

// readFiles reads the key files in dir. The result has no entry for a file that
// does not exist.
func readFiles(dir string) (files, error) {
	names := []string{x509File, cosignFile, cosignPasswordFile}
	retired, err := filepath.Glob(filepath.Join(dir, retiredPattern))
	if err != nil {
		return nil, err
	}
	if len(retired) > maxRetiredKeys {
		return nil, fmt.Errorf("%s: found %d files %s, expected at most %d; remove the keys that no signature in use was made with",
			dir, len(retired), retiredPattern, maxRetiredKeys)
	}
	for _, path := range retired {
		names = append(names, filepath.Base(path))
	}
	contents := files{}
	for _, name := range names {
		content, err := readBounded(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		default:
			contents[name] = content
		}
	}
	return contents, nil
}

// ReadPublicKey reads a public key in PEM from a file.
func ReadPublicKey(path string) (crypto.PublicKey, error) {
	content, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	return cryptoutils.UnmarshalPEMToPublicKey(content)
}

func readBounded(path string) ([]byte, error) {
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // no writes that an error could concern
	content, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if len(content) > maxKeyFile {
		return nil, fmt.Errorf("%s: longer than %d bytes, the maximum for a key file", path, maxKeyFile)
	}
	return content, nil
}

// digest returns a value that changes when a file changes.
func (f files) digest() string {
	hash := sha256.New()
	for _, name := range f.names() {
		fmt.Fprintf(hash, "%s %d\n", name, len(f[name]))
		hash.Write(f[name])
	}
	return string(hash.Sum(nil))
}

func (f files) names() []string {
	names := make([]string, 0, len(f))
	for name := range f {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// signingKey loads the signing key with the x509 signer of Tekton Chains. It
// checks x509.pem first, because Chains panics on some invalid files. As in
// Chains, x509.pem has precedence over cosign.key. Fulcio is not used: Tekton's
// annotation has no room for a certificate.
func (f files) signingKey(ctx context.Context, dir string) (*Key, error) {
	var path string
	switch {
	case f[x509File] != nil:
		path = filepath.Join(dir, x509File)
		if err := checkX509(f[x509File]); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	case f[cosignFile] != nil:
		path = filepath.Join(dir, cosignFile)
	default:
		return nil, fmt.Errorf("%s: found neither %s nor %s; put the private key there (cosign generate-key-pair makes one)",
			dir, x509File, cosignFile)
	}
	signer, err := newX509Signer(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, err := newSigningKey(ctx, signer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// newX509Signer turns a panic of Chains into an error. Chains reads the file
// again, so the file can differ from the file that was checked.
func newX509Signer(ctx context.Context, dir string) (signer *chainsx509.Signer, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("not a private key that Tekton Chains can load")
		}
	}()
	return chainsx509.NewSigner(ctx, dir, chainsconfig.Config{})
}

func checkX509(content []byte) error {
	block, _ := pem.Decode(content)
	if block == nil {
		return errors.New("not PEM; expected a PKCS #8 ECDSA private key in PEM")
	}
	if block.Type != string(cryptoutils.PrivateKeyPEMType) {
		return fmt.Errorf("found a PEM block %q, expected %q (PKCS #8)", block.Type, cryptoutils.PrivateKeyPEMType)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return errors.New("the PEM block does not hold a PKCS #8 private key")
	}
	if _, ok := key.(*ecdsa.PrivateKey); !ok {
		return fmt.Errorf("found a key of type %T, expected ECDSA", key)
	}
	return nil
}

// retiredKeys returns the public keys in the files.
func (f files) retiredKeys(dir string) ([]*Key, error) {
	var keys []*Key
	for _, name := range f.names() {
		if matched, _ := filepath.Match(retiredPattern, name); !matched {
			continue
		}
		public, err := cryptoutils.UnmarshalPEMToPublicKey(f[name])
		if err != nil {
			return nil, fmt.Errorf("%s: not a public key in PEM: %w", filepath.Join(dir, name), err)
		}
		key, err := newKey(public, nil)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}
