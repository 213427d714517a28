// SPDX-License-Identifier: Apache-2.0

// Command webhook is the admission webhook: it records who made the content of Tasks,
// Pipelines and StepActions, makes Tekton verify local references, and holds the Pods of
// TaskRuns. It has no signing key.
package main

import (
	"os"

	"github.com/trusted-resources/chains-extension/pkg/webhook"
)

func main() { os.Exit(webhook.Main()) }
