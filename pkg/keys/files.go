// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/sigstore/cosign/v2/pkg/cosign"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
)

// Names of the files in the signing secret, as in Tekton Chains.
const (
	x509File           = "x509.pem"
	cosignFile         = "cosign.key"
	cosignPasswordFile = "cosign.password"
	// revokedPattern matches the public keys of revoked keys.
	revokedPattern = "revoked-*.pub"
	// retiredPattern matches the public keys of retired keys, unless
	// revokedPattern matches. It also matches cosign.pub, which can be the public
	// key of the active key.
	retiredPattern = "*.pub"
)

const (
	maxKeyFile = 64 << 10
	// maxPublicKeys bounds the retired keys, and the revoked keys.
	maxPublicKeys = 32
)

// ErrNotSet means that no key is set for a signer: neither a good one nor one that
// cannot be used.
var ErrNotSet = errors.New("no key is set")

// files are the key files in the signing secret, by base name.
type files map[string]file

// file is the content of a key file, or the reason why it cannot be read.
type file struct {
	content []byte
	err     error
}

// readFiles reads the key files in dir. The result has no entry for a file that
// does not exist. The error means that the directory cannot be read, so that
// nothing is known about its files.
func readFiles(dir string) (files, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	read := files{}
	for _, entry := range entries {
		if !isKeyFile(entry.Name()) {
			continue
		}
		content, err := ReadFile(filepath.Join(dir, entry.Name()), maxKeyFile)
		if !errors.Is(err, fs.ErrNotExist) { // the kubelet may have replaced the files meanwhile
			read[entry.Name()] = file{content, err}
		}
	}
	return read, nil
}

func isKeyFile(name string) bool {
	return name == x509File || name == cosignFile || name == cosignPasswordFile || isRetired(name) || isRevoked(name)
}

func isRevoked(name string) bool {
	matched, _ := filepath.Match(revokedPattern, name) // the pattern is valid
	return matched
}

func isRetired(name string) bool {
	matched, _ := filepath.Match(retiredPattern, name) // the pattern is valid
	return matched && !isRevoked(name)
}

// ReadPublicKey reads a public key in PEM from a file.
func ReadPublicKey(path string) (crypto.PublicKey, error) {
	content, err := ReadFile(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	return cryptoutils.UnmarshalPEMToPublicKey(content)
}

// ReadFile reads a file. A file with more than limit bytes is an error.
func ReadFile(path string, limit int) ([]byte, error) {
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // no writes that an error could concern
	content, err := io.ReadAll(io.LimitReader(file, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if len(content) > limit {
		return nil, fmt.Errorf("%s: longer than %d bytes, the maximum for such a file", path, limit)
	}
	return content, nil
}

// digest returns a value that changes when a file changes.
func (f files) digest() string {
	hash := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(f)) {
		fmt.Fprintf(hash, "%s %d %v\n", name, len(f[name].content), f[name].err)
		hash.Write(f[name].content)
	}
	return string(hash.Sum(nil))
}

// signer loads the private key as the x509 signer of Tekton Chains does, which takes
// directories only and panics on some invalid files, and proves that the key signs. As
// in Chains, x509.pem has precedence over cosign.key. Fulcio is not used: Tekton's
// annotation has no room for a certificate. place is where the files are, for errors.
// The error wraps ErrNotSet if there is no private key.
func (f files) signer(place string) (signature.SignerVerifier, error) {
	name := f.privateKeyName()
	used, found := f[name]
	if !found {
		return nil, fmt.Errorf("%w: %s: found neither %s nor %s; put the private key there (cosign generate-key-pair makes one)",
			ErrNotSet, place, x509File, cosignFile)
	}
	if used.err != nil {
		return nil, used.err // names the file
	}
	load := f.cosignSigner
	if name == x509File {
		load = f.x509Signer
	}
	signer, err := load()
	if err == nil {
		err = probe(signer)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(place, name), err)
	}
	return signer, nil
}

// privateKeyName returns the name of the file that Chains loads.
func (f files) privateKeyName() string {
	if _, found := f[x509File]; found {
		return x509File
	}
	return cosignFile
}

func (f files) cosignSigner() (signature.SignerVerifier, error) {
	password, found := f[cosignPasswordFile]
	switch {
	case !found:
		return nil, fmt.Errorf("found no %s beside it", cosignPasswordFile)
	case password.err != nil:
		return nil, password.err
	}
	return cosign.LoadPrivateKey(f[cosignFile].content, password.content, nil)
}

func (f files) x509Signer() (signature.SignerVerifier, error) {
	block, _ := pem.Decode(f[x509File].content)
	if block == nil {
		return nil, errors.New("not PEM; expected a PKCS #8 ECDSA private key in PEM")
	}
	if block.Type != string(cryptoutils.PrivateKeyPEMType) {
		return nil, fmt.Errorf("found a PEM block %q, expected %q (PKCS #8)", block.Type, cryptoutils.PrivateKeyPEMType)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the PEM block does not hold a PKCS #8 private key")
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("found a key of type %T, expected ECDSA", key)
	}
	return signature.LoadECDSASignerVerifier(private, crypto.SHA256)
}

// probe proves that the signer verifies what it signs.
func probe(signer signature.SignerVerifier) error {
	message := []byte("probe")
	sig, err := signer.SignMessage(bytes.NewReader(message))
	if err == nil {
		err = signer.VerifySignature(bytes.NewReader(sig), bytes.NewReader(message))
	}
	if err != nil {
		return fmt.Errorf("signing a test message: %w", err)
	}
	return nil
}

// retiredKeys returns the retired keys. The error is about the files that have
// none, and the keys of the other files are returned as well.
func (f files) retiredKeys(dir string) ([]*Key, error) { return f.publicKeys(dir, isRetired, newKey) }

// revokedKeys is retiredKeys for revoked keys, which can be of any type.
func (f files) revokedKeys(dir string) ([]*Key, error) {
	return f.publicKeys(dir, isRevoked, newVerifyingKey)
}

func (f files) publicKeys(dir string, wanted func(name string) bool, newKey func(crypto.PublicKey) (*Key, error)) (keys []*Key, err error) {
	names := slices.Sorted(maps.Keys(f))
	names = slices.DeleteFunc(names, func(name string) bool { return !wanted(name) })
	if len(names) > maxPublicKeys {
		return nil, fmt.Errorf("%s: found %d files such as %s, expected at most %d; remove the keys that no signature in use was made with",
			dir, len(names), names[0], maxPublicKeys)
	}
	var errs []error
	for _, name := range names {
		key, err := f[name].publicKey(filepath.Join(dir, name), newKey)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		keys = append(keys, key)
	}
	return keys, errors.Join(errs...)
}

func (f file) publicKey(path string, newKey func(crypto.PublicKey) (*Key, error)) (*Key, error) {
	if f.err != nil {
		return nil, f.err // names the file
	}
	if block, rest := pem.Decode(f.content); block != nil && isRevoked(filepath.Base(path)) && len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%s: found more than one public key in PEM, expected one; put each key into a file of its own", path)
	}
	public, err := cryptoutils.UnmarshalPEMToPublicKey(f.content)
	if err != nil {
		return nil, fmt.Errorf("%s: not a public key in PEM: %w", path, err)
	}
	key, err := newKey(public)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}
