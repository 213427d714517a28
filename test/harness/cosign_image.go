package harness

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

// BundleMediaType is the artifact type of the referrer that both versions of
// cosign keep a signature in, and the media type of its only layer.
const BundleMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// noTrustedRoot trusts no certificate authority, log or timestamp authority.
// Without a file like it v2 downloads the public one, although it verifies with
// a key alone, and refuses bundles if it cannot.
const noTrustedRoot = `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`

// GenerateKeyPair makes a key pair in dir, with cosign itself, and returns the
// path of the private key, encrypted with the password, and the public key.
func (c Cosign) GenerateKeyPair(ctx context.Context, dir, password string) (keyFile string, public crypto.PublicKey, err error) {
	prefix := filepath.Join(dir, "cosign")
	if _, err := c.run(ctx, withPassword(password), "generate-key-pair", "--output-key-prefix", prefix); err != nil {
		return "", nil, err
	}
	pem, err := os.ReadFile(prefix + ".pub")
	if err != nil {
		return "", nil, err
	}
	public, err = cryptoutils.UnmarshalPEMToPublicKey(pem)
	return prefix + ".key", public, err
}

// SignImage signs an image with a key, in no transparency log and without a
// timestamp, and attaches the signature as a Sigstore bundle. More flags say how
// to reach the registry, see VerifyImages.
func (c Cosign) SignImage(ctx context.Context, keyFile, password string, image name.Digest, flags ...string) error {
	args := append([]string{
		"sign", "--key", keyFile, "--new-bundle-format", "--yes", "--allow-http-registry",
		// v3 takes the one only without the other, which is its default and makes
		// it ask the public Sigstore where the log is.
		"--tlog-upload=false", "--use-signing-config=false",
	}, flags...)
	_, err := c.run(ctx, withPassword(password), append(args, image.Name())...)
	return err
}

// VerifyImages verifies a signature that is attached to each of the images as a
// Sigstore bundle, with a key alone, and returns what cosign prints. cosign takes
// any statement of the key's about the image, whatever its predicate type is. And
// where there is no bundle at all v3 takes a signature in the old format.
//
// More flags say how to reach the registry, such as --registry-cacert,
// --registry-username and --registry-password.
func (c Cosign) VerifyImages(ctx context.Context, public crypto.PublicKey, images []name.Digest, flags ...string) (out string, err error) {
	return c.verifyImages(ctx, public, []byte(noTrustedRoot), images, append([]string{"--insecure-ignore-tlog"}, flags...))
}

// VerifyLoggedImages is VerifyImages for signatures that are in a transparency
// log, which a trusted root names.
func (c Cosign) VerifyLoggedImages(ctx context.Context, public crypto.PublicKey, trustedRoot []byte, images ...name.Digest) (out string, err error) {
	return c.verifyImages(ctx, public, trustedRoot, images, nil)
}

func (c Cosign) verifyImages(ctx context.Context, public crypto.PublicKey, trustedRoot []byte, images []name.Digest, flags []string) (out string, err error) {
	err = withFiles(public, trustedRoot, func(keyFile, rootFile string) error {
		args := append([]string{"verify", "--key", keyFile, "--new-bundle-format", "--trusted-root", rootFile, "--allow-http-registry"}, flags...)
		for _, image := range images {
			args = append(args, image.Name())
		}
		out, err = c.Run(ctx, args...)
		return err
	})
	return out, err
}

func withPassword(password string) []string {
	return []string{fmt.Sprintf("COSIGN_PASSWORD=%s", password)}
}
