// SPDX-License-Identifier: Apache-2.0

// Package cli implements the command tkn-trust.
package cli

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/store/oci"
)

// Exit codes.
const (
	// OK means that the command succeeded and found nothing wrong.
	OK = 0
	// Findings means that something is not signed with a trusted key, belongs to
	// another namespace, or is signed for another release of Tekton; that something
	// blocks what the command waits for; that a KeyRing cannot sign; or that an audit log
	// is not as it was written.
	Findings = 1
	// Failed means a usage error, or that the command could not do its work.
	Failed = 2
)

// errFindings makes Run return Findings.
var errFindings = errors.New("not everything is signed with a trusted key")

// Command is the command tkn-trust with its subcommands.
type Command struct{ root *cobra.Command }

// New returns the command. It prints to stdout and stderr.
func New(stdout, stderr io.Writer) *Command {
	root := &cobra.Command{
		Use:           "tkn-trust",
		Short:         "Sign and verify Tekton resources, and manage their keys",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(newAudit(), newBundle(), newKey(), newVersion())
	return &Command{root}
}

// Run runs the command and returns its exit code.
func (c *Command) Run(ctx context.Context, args []string) int {
	c.root.SetArgs(args)
	err := c.root.ExecuteContext(logging.WithLogger(ctx, zap.NewNop().Sugar()))
	if err != nil {
		c.root.PrintErrln("Error:", err)
	}
	switch {
	case err == nil:
		return OK
	case errors.Is(err, errFindings), errors.Is(err, oci.ErrNamespace), errors.Is(err, oci.ErrDialect), errors.Is(err, oci.ErrNotTrusted), errors.Is(err, errBlocked), errors.Is(err, errAuditFindings):
		return Findings
	default:
		return Failed
	}
}
