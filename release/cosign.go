// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
)

const publicKeyFile = "cosign.pub"

// cosign runs cosign v3.
type cosign struct {
	command []string
	key     string
	// environment is that of this process before setEnvironment, because the command
	// may be "go run" of a released cosign.
	environment []string
}

// withKey are the flags of every command that signs. No transparency log is used: who
// verifies needs the key and nothing from the network.
func (c cosign) withKey() []string {
	return []string{"--key", c.key, "--yes", "--tlog-upload=false", "--use-signing-config=false"}
}

func (c cosign) run(ctx context.Context, args ...string) error {
	full := slices.Concat(c.command, args)
	cmd := exec.CommandContext(ctx, full[0], full[1:]...)
	cmd.Env = c.environment
	cmd.Stdin, cmd.Stderr = os.Stdin, os.Stderr // cosign may ask for the password of the key
	if out, err := cmd.Output(); err != nil {
		return fmt.Errorf("cosign %s: %w: %s", args[0], err, out)
	}
	return nil
}

// writePublicKey writes the public key of the signatures to a file.
func (c cosign) writePublicKey(ctx context.Context, file string) error {
	return c.run(ctx, "public-key", "--key", c.key, "--outfile", file)
}

// sign signs an image, and attaches the signature to it in its registry.
func (c cosign) sign(ctx context.Context, image string) error {
	return c.run(ctx, slices.Concat([]string{"sign"}, c.withKey(), []string{"--allow-http-registry", image})...)
}

// attest signs a predicate about an image, and attaches it to the image.
func (c cosign) attest(ctx context.Context, image, predicateType, predicate string) error {
	return c.run(ctx, slices.Concat([]string{"attest"}, c.withKey(),
		[]string{"--allow-http-registry", "--type", predicateType, "--predicate", predicate, image})...)
}

// signBlob signs a file and writes the signature to a bundle.
func (c cosign) signBlob(ctx context.Context, file, bundle string) error {
	return c.run(ctx, slices.Concat([]string{"sign-blob"}, c.withKey(), []string{"--bundle", bundle, file})...)
}

// attestBlob signs an in-toto statement about files and writes it to a bundle.
func (c cosign) attestBlob(ctx context.Context, statement, bundle string) error {
	return c.run(ctx, slices.Concat([]string{"attest-blob"}, c.withKey(), []string{"--statement", statement, "--bundle", bundle})...)
}
