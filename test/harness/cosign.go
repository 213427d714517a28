package harness

import (
	"context"
	"crypto"
	"debug/buildinfo"
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

// Cosigns has a release of each major version that users have.
var Cosigns = []Cosign{{"v2", "v2.6.3"}, {"v3", "v3.1.3"}}

// BuildCosigns makes the programs that are missing and writes its progress to
// out. The first time it takes about five minutes on two cores.
func BuildCosigns(ctx context.Context, out io.Writer) error {
	for _, c := range Cosigns {
		if err := c.build(ctx, out); err != nil {
			return fmt.Errorf("cosign %s: %w", c.Version, err)
		}
	}
	return nil
}

func (c Cosign) module() string { return "github.com/sigstore/cosign/" + c.Major }

func (c Cosign) program() string {
	return filepath.Join(Root(), ".localcluster", "bin", "cosign-"+c.Major)
}

// build installs the tool by version, not as a part of any module of this
// source tree: its dependencies are the ones that it was released with.
func (c Cosign) build(ctx context.Context, out io.Writer) error {
	if info, err := buildinfo.ReadFile(c.program()); err == nil && info.Main.Path == c.module() && info.Main.Version == c.Version {
		return nil
	}
	bin := filepath.Dir(c.program())
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(bin, ".cosign-") // where renaming is atomic
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	install := command(ctx, out, "go", "install", c.module()+"/cmd/cosign@"+c.Version)
	install.Env = append(os.Environ(), "GOBIN="+dir)
	if err := install.Run(); err != nil {
		return fmt.Errorf("%s: %w", install, err)
	}
	return os.Rename(filepath.Join(dir, "cosign"), c.program())
}

// Run runs a command of cosign and returns all that it prints. It gets nothing
// of the user's: no configuration, no credentials, no COSIGN_ variables.
func (c Cosign) Run(ctx context.Context, args ...string) (string, error) {
	home, err := os.MkdirTemp("", "cosign-home-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(home) }()
	cmd := exec.CommandContext(ctx, c.program(), args...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home,
		// Set to anything, it keeps v2 from asking the public Sigstore for its
		// root, which no key of ours has to do with.
		"SIGSTORE_ROOT_FILE=" + os.DevNull,
	}
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
