// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"crypto"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

// Cosign is a release of cosign, with which users verify attestations and images.
type Cosign struct {
	// Major is the major version, such as v3.
	Major string
	// Version is the full version.
	Version string
}

// noProxy is an address of an HTTP proxy where nothing listens. Go's HTTP client uses
// the proxy for all hosts but this machine, so requests to the internet fail at once.
const noProxy = "http://127.0.0.1:1"

// Cosigns lists one release of each major version in use.
var Cosigns = []Cosign{{"v2", "v2.6.3"}, {"v3", "v3.1.3"}}

// BuildCosigns builds the programs that are missing and writes its progress to out. The
// first build takes about five minutes on two cores.
func BuildCosigns(ctx context.Context, out io.Writer) error {
	for _, c := range Cosigns {
		if err := c.tool().install(ctx, out); err != nil {
			return err
		}
	}
	return nil
}

func (c Cosign) tool() tool {
	return tool{name: "cosign-" + c.Major, module: "github.com/sigstore/cosign/" + c.Major, version: c.Version, main: "cmd/cosign"}
}

// Path returns the path of the program.
func (c Cosign) Path() string { return c.tool().path() }

// Run runs a command of cosign and returns its output. cosign does not get the user's
// configuration, credentials or COSIGN_ variables, and reaches only this machine.
func (c Cosign) Run(ctx context.Context, args ...string) (string, error) {
	return c.run(ctx, nil, args...)
}

func (c Cosign) run(ctx context.Context, env []string, args ...string) (string, error) {
	home, err := os.MkdirTemp("", "cosign-home-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(home) }()
	cmd := exec.CommandContext(ctx, c.tool().path(), args...)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home,
		"HTTP_PROXY=" + noProxy, "HTTPS_PROXY=" + noProxy,
		// With any value, cosign v2 does not download the root of the public
		// Sigstore. Our keys do not need that root.
		"SIGSTORE_ROOT_FILE=" + os.DevNull,
	}, env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cosign %s %s: %w: %s", c.Version, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// VerifyBlobAttestation verifies a DSSE envelope of Chains: signed with a key, without a
// transparency log and without a sigstore bundle. The statement must have the predicate
// type (a short name of cosign or a URI) and a subject with the hexadecimal SHA-256
// digest.
func (c Cosign) VerifyBlobAttestation(ctx context.Context, public crypto.PublicKey, envelope []byte, predicateType, digest string) error {
	return withFiles(public, envelope, func(keyFile, envelopeFile string) error {
		_, err := c.Run(ctx, "verify-blob-attestation", "--key", keyFile, "--insecure-ignore-tlog",
			"--signature", envelopeFile, "--type", predicateType, "--digest", digest, "--digestAlg", "sha256")
		return err
	})
}

// VerifyAttestation verifies the attestations that Chains has attached to an image in a
// registry. It returns the output of cosign: the envelopes, one in each line.
func (c Cosign) VerifyAttestation(ctx context.Context, public crypto.PublicKey, image name.Digest, predicateType string) (out string, err error) {
	err = withFiles(public, nil, func(keyFile, _ string) error {
		out, err = c.Run(ctx, "verify-attestation", "--key", keyFile, "--insecure-ignore-tlog", "--allow-http-registry",
			"--type", predicateType, image.Name())
		return err
	})
	return out, err
}

// withFiles writes a key and an envelope to temporary files and calls use with their
// names.
func withFiles(public crypto.PublicKey, envelope []byte, use func(keyFile, envelopeFile string) error) error {
	pem, err := cryptoutils.MarshalPublicKeyToPEM(public)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "attestation-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	keyFile, envelopeFile := filepath.Join(dir, "cosign.pub"), filepath.Join(dir, "attestation.json")
	if err := os.WriteFile(keyFile, pem, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(envelopeFile, envelope, 0o600); err != nil {
		return err
	}
	return use(keyFile, envelopeFile)
}
