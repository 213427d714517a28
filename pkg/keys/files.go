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
	"github.com/sigstore/sigstore/pkg/signature"
	chainsx509 "github.com/tektoncd/chains/pkg/chains/signing/x509"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
)

// The names that Chains gives to the files of the signing secret.
const (
	x509File           = "x509.pem"
	cosignFile         = "cosign.key"
	cosignPasswordFile = "cosign.password"
	// retiredPattern matches public keys that signed before: cosign.pub of the
	// active key may be among them.
	retiredPattern = "*.pub"
)

const (
	maxKeyFile     = 64 << 10
	maxRetiredKeys = 32
)

// files are the contents of the signing secret that matter, by base name.
type files map[string][]byte

// readFiles reads the key files that are in dir; a file that is missing is
// missing in the result.
func readFiles(dir string) (files, error) {
	names := []string{x509File, cosignFile, cosignPasswordFile}
	retired, err := filepath.Glob(filepath.Join(dir, retiredPattern))
	if err != nil {
		return nil, err
	}
	if len(retired) > maxRetiredKeys {
		return nil, fmt.Errorf("%s: found %d files %s, expected at most %d; remove the keys that no resource is signed with any more",
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

// ReadPublicKey reads a file with a public key in PEM.
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
	defer func() { _ = file.Close() }() // only read
	content, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if len(content) > maxKeyFile {
		return nil, fmt.Errorf("%s: longer than the %d bytes that a key may have", path, maxKeyFile)
	}
	return content, nil
}

// fingerprint changes when any of the files does.
func (f files) fingerprint() string {
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

// privateKey builds Chains' x509 signer, after a look at the file that Chains
// will take: its own code panics on some of what is refused here. Chains'
// choice of x509.pem before cosign.key is kept; Fulcio is not used, because
// Tekton's annotation has no room for the certificate.
func (f files) privateKey(ctx context.Context, dir string) (*Key, error) {
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
	key, err := signingKey(ctx, signer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// newX509Signer turns a panic of Chains into an error: the file can change
// between our look at it and Chains'.
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

// signingKey accepts a signer only when it proved that Tekton can verify what
// it signs.
func signingKey(ctx context.Context, signer signature.SignerVerifier) (*Key, error) {
	public, err := signer.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("reading the public key: %w", err)
	}
	key, err := newKey(public, signer)
	if err != nil {
		return nil, err
	}
	if _, err := key.Sign(ctx, []byte("probe")); err != nil {
		return nil, err
	}
	return key, nil
}

// retiredKeys are the public keys among the files.
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
