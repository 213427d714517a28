// SPDX-License-Identifier: Apache-2.0

// Command controller is Tekton Chains' controller. It also signs the Tasks,
// Pipelines and StepActions of the cluster.
package main

import (
	"os"

	"github.com/trusted-resources/chains-extension/pkg/app"
)

func main() { os.Exit(app.Main()) }
