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

// Cosign is a release of cosign, the tool with which users verify.
type Cosign struct {
	// Major is its major version, such as v3.
	Major string
	// Version is the whole of it.
	Version string
}

// noProxy is where no proxy listens. Go's HTTP client asks it for all that is
// not on this machine, so that what needs the internet fails at once.
const noProxy = "http://127.0.0.1:1"

// Cosigns has a release of each major version that users have.
var Cosigns = []Cosign{{"v2", "v2.6.3"}, {"v3", "v3.1.3"}}

// BuildCosigns makes the programs that are missing and writes its progress to
// out. The first time it takes about five minutes on two cores.
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

// Run runs a command of cosign and returns all that it prints. It gets nothing
// of the user's: no configuration, no credentials, no COSIGN_ variables. And it
// reaches nothing but this machine.
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
		// Set to anything, it keeps v2 from asking the public Sigstore for its
		// root, which no key of ours has to do with.
		"SIGSTORE_ROOT_FILE=" + os.DevNull,
	}, env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cosign %s %s: %w: %s", c.Version, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// VerifyBlobAttestation verifies a DSSE envelope as Chains makes them: signed
// with a key, not in a transparency log, in no Sigstore bundle. Its statement
// must have the predicate type (a short name of cosign's or a URI) and a subject
// with the SHA-256 digest, in hexadecimal.
func (c Cosign) VerifyBlobAttestation(ctx context.Context, public crypto.PublicKey, envelope []byte, predicateType, digest string) error {
	return withFiles(public, envelope, func(keyFile, envelopeFile string) error {
		_, err := c.Run(ctx, "verify-blob-attestation", "--key", keyFile, "--insecure-ignore-tlog",
			"--signature", envelopeFile, "--type", predicateType, "--digest", digest, "--digestAlg", "sha256")
		return err
	})
}

// VerifyAttestation verifies what Chains attached to an image in a registry, in
// the same way, and returns what cosign prints: the envelopes, one on a line.
func (c Cosign) VerifyAttestation(ctx context.Context, public crypto.PublicKey, image name.Digest, predicateType string) (out string, err error) {
	err = withFiles(public, nil, func(keyFile, _ string) error {
		out, err = c.Run(ctx, "verify-attestation", "--key", keyFile, "--insecure-ignore-tlog", "--allow-http-registry",
			"--type", predicateType, image.Name())
		return err
	})
	return out, err
}

// withFiles gives cosign a key and an envelope as files.
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
