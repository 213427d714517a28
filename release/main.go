// SPDX-License-Identifier: Apache-2.0

// Command release makes the files of a release below dist/: manifests, the image of the
// controller, tkn-trust for all platforms, checksums, provenance and signatures. The same
// commit and the same release of Go always give the same files, apart from the
// signatures. See docs/release.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o options
	var source, cosign string
	flag.StringVar(&source, "source", "..", "Directory of the source. All other paths are relative to it.")
	flag.StringVar(&o.version, "version", "", "Version of the release, such as v0.1.0.")
	flag.StringVar(&o.repository, "repository", "", "Repository to which the image is pushed. Without it, the image is in dist/image only.")
	flag.StringVar(&o.key, "key", "", "Private key of cosign: a file, or any other reference that cosign --key takes. Without it, nothing is signed.")
	flag.StringVar(&o.builder, "builder", byHand, "URI that the provenance gives as its builder.")
	flag.StringVar(&cosign, "cosign", "cosign", "Command that runs cosign v3.")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected arguments %q", flag.Args())
	}
	if err := o.check(); err != nil {
		return err
	}
	if err := os.Chdir(source); err != nil {
		return err
	}
	o.cosign = strings.Fields(cosign)
	return newRelease(o).make(ctx)
}
