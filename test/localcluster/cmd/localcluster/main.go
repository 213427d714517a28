// SPDX-License-Identifier: Apache-2.0

// Localcluster runs a real Kubernetes control plane with Tekton on one Linux machine, without root and
// without a container engine.
package main

import (
	"os"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}
