// SPDX-License-Identifier: Apache-2.0

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

// BundleMediaType is the artifact type of the referrer in which both versions of cosign
// store a signature. It is also the media type of the only layer of the referrer.
const BundleMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// NoTrustedRoot is a trusted root without any certificate authority, log or timestamp
// authority. Without a trusted root, cosign v2 downloads the public one even if it
// verifies with a key, and rejects bundles if the download fails.
const NoTrustedRoot = `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`

// GenerateKeyPair makes cosign write a key pair to dir. It returns the path of the
// private key, which is encrypted with the password, and the public key.
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

// SignImage signs an image with a key, without a transparency log and without a
// timestamp, and attaches the signature as a sigstore bundle. Flags for the registry are
// as in VerifyImages.
func (c Cosign) SignImage(ctx context.Context, keyFile, password string, image name.Digest, flags ...string) error {
	args := append([]string{
		"sign", "--key", keyFile, "--new-bundle-format", "--yes", "--allow-http-registry",
		// cosign v3 accepts the first flag only together with the second. By default
		// it reads the address of a log from the public Sigstore.
		"--tlog-upload=false", "--use-signing-config=false",
	}, flags...)
	_, err := c.run(ctx, withPassword(password), append(args, image.Name())...)
	return err
}

// VerifyImages verifies with a key the sigstore bundle that is attached to each image,
// and returns the output of cosign. cosign accepts every statement about the image that
// the key has signed, with any predicate type. If an image has no bundle at all, cosign
// v3 accepts a signature in the old format.
//
// Flags for the registry are, for example, --registry-cacert, --registry-username and
// --registry-password.
func (c Cosign) VerifyImages(ctx context.Context, public crypto.PublicKey, images []name.Digest, flags ...string) (out string, err error) {
	return c.verifyImages(ctx, public, []byte(NoTrustedRoot), images, append([]string{"--insecure-ignore-tlog"}, flags...))
}

// VerifyLoggedImages is VerifyImages for signatures in a transparency log. The trusted
// root names the log.
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
