// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/pkg/audit"
)

// errAuditFindings means that the audit log is not as it was written.
var errAuditFindings = errors.New("the audit log is not as it was written")

func newAudit() *cobra.Command {
	command := &cobra.Command{Use: "audit", Short: "Verify the audit log of the controller"}
	command.AddCommand(newAuditVerify())
	return command
}

// auditFlags are the flags of tkn-trust audit verify.
type auditFlags struct {
	keys            []string
	head, kubeAudit string
	stopped         bool
	format          output
}

func newAuditVerify() *cobra.Command {
	var flags auditFlags
	command := &cobra.Command{
		Use:   "verify FILE...",
		Short: "Find out whether records of the audit log were removed or changed",
		Long: `Find out whether records of the audit log were removed, changed, reordered or
duplicated, and list the signatures that were begun and have no outcome.

The order of the files does not matter; "-" is the standard input. Each record has
the hash of the record before. Checkpoints sign the hashes; with --key, each
checkpoint must be signed with one of the keys, so that a log that was written anew
is found, too. Name the keys of all rotations.

A file cannot tell that its last records were removed. --expect-head compares the
files with a record from another place, such as the standard output of the
controller. With --stopped, the last record must be that of a shutdown.

The exit code is
  0  if nothing was found,
  1  if something was found; the output names file, line, stream and number,
  2  if the command could not verify the files.`,
		Example: `  tkn-trust audit verify --key cosign.pub audit*.log
  tkn-trust audit verify --key cosign.pub --kube-audit kube-apiserver-audit.log audit*.log
  tkn-trust audit verify --expect-head 4711:sha256:91… audit.log
  kubectl -n tekton-chains logs deployment/tekton-chains-controller | grep '"logger":"audit"' | tkn-trust audit verify -`,
		Args: cobra.MinimumNArgs(1),
		RunE: flags.run,
	}
	set := command.Flags()
	set.StringArrayVar(&flags.keys, "key", nil, "PEM file with a public key that may have signed checkpoints; may be repeated (default: signatures are not checked)")
	set.StringVar(&flags.head, "expect-head", "", "SEQ:HASH of a record that the files must have, such as 4711:sha256:91…")
	set.StringVar(&flags.kubeAudit, "kube-audit", "", "audit log of the API server in JSON lines, which tells what became of signatures without an outcome")
	set.BoolVar(&flags.stopped, "stopped", false, "the controller was stopped, so the last record must be that of its shutdown")
	flags.format.add(command, "table", "json", "yaml")
	return command
}

func (f *auditFlags) run(cmd *cobra.Command, names []string) error {
	options, err := f.options()
	if err != nil {
		return err
	}
	var files []audit.File
	for _, name := range names {
		content, closeFile, err := openAudit(cmd, name)
		if err != nil {
			return err
		}
		defer closeFile()
		files = append(files, audit.File{Name: name, Content: content})
	}
	report, err := audit.Verify(cmd.Context(), files, options)
	if err != nil {
		return err
	}
	if err := f.resolve(cmd, report); err != nil {
		return err
	}
	shown := shownAudit{report, options.Trusted != nil}
	if err := f.format.write(cmd.OutOrStdout(), report, shown.table); err != nil {
		return err
	}
	if !report.Verified {
		return errAuditFindings
	}
	return nil
}

func (f *auditFlags) options() (o audit.Options, err error) {
	o.Stopped = f.stopped
	if len(f.keys) > 0 {
		if o.Trusted, err = readKeys(f.keys); err != nil {
			return o, err
		}
	}
	if f.head == "" {
		return o, nil
	}
	number, hash, _ := strings.Cut(f.head, ":")
	seq, err := strconv.ParseUint(number, 10, 64)
	if err != nil || len(hash) != len(audit.Hash{}.String()) || !strings.HasPrefix(hash, "sha256:") {
		return o, fmt.Errorf("--expect-head %q: expected SEQ:HASH, such as 4711:%s", f.head, audit.Hash{})
	}
	o.Head = &audit.Head{Seq: seq, Hash: hash}
	return o, nil
}

// openAudit opens a file, or the standard input for "-".
func openAudit(cmd *cobra.Command, name string) (content io.Reader, closeFile func(), err error) {
	if name == "-" {
		return cmd.InOrStdin(), func() {}, nil
	}
	file, err := os.Open(name) //nolint:gosec // the user names the file
	if err != nil {
		return nil, nil, err
	}
	return file, func() { _ = file.Close() }, nil // the file is only read
}

func (f *auditFlags) resolve(cmd *cobra.Command, report *audit.Report) error {
	if f.kubeAudit == "" {
		return nil
	}
	log, closeFile, err := openAudit(cmd, f.kubeAudit)
	if err != nil {
		return err
	}
	defer closeFile()
	if err := report.Resolve(cmd.Context(), log); err != nil {
		return fmt.Errorf("--kube-audit %s: %w", f.kubeAudit, err)
	}
	return nil
}

// shownAudit prints a report as text.
type shownAudit struct {
	*audit.Report

	keys bool // signatures were checked
}

func (r shownAudit) table(w io.Writer) error {
	const padding = 2
	t := tabwriter.NewWriter(w, 0, 0, padding, ' ', 0)
	fmt.Fprintln(t, "STREAM\tRECORDS\tCHECKPOINTS\tSIGNED UP TO\tEND")
	for _, s := range r.Streams {
		fmt.Fprintf(t, "%s\t%d to %d\t%d\t%s\t%s\n", s.Stream, s.First, s.Last, s.Checkpoints, r.signed(s), s.Ended)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, i := range r.Intents {
		fmt.Fprintf(w, "Without an outcome: %s, %s (record %d of %s): %s\n", objectName(i.Object), i.Attempt, i.Seq, i.Stream, resolved[i.Resolution])
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "Note: %s: %s%s\n", n.Problem, where(n), n.Message)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(w, "Found: %s: %s%s%s\n", f.Problem, where(f), f.Message, difference(f))
	}
	if more := r.FindingsInAll - len(r.Findings); more > 0 {
		fmt.Fprintf(w, "and %d more\n", more)
	}
	if r.Verified {
		fmt.Fprintf(w, "%d records in %d files: nothing was found\n", r.Records, len(r.Files))
	}
	return nil
}

func (r shownAudit) signed(s audit.Stream) string {
	switch {
	case !r.keys:
		return "not checked (--key)"
	case s.Signed == 0:
		return "none"
	}
	return strconv.FormatUint(s.Signed, 10)
}

// resolved describes resolutions.
var resolved = map[audit.Resolution]string{
	"":                 "not known; --kube-audit can tell",
	audit.PatchStored:  "the API server stored the signature",
	audit.PatchRefused: "the API server refused the signature",
	audit.PatchNotSent: "the API server has no such request",
}

func objectName(o *audit.Object) string {
	if o == nil {
		return "an unnamed object"
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// where says where a finding is.
func where(f audit.Finding) string {
	var parts []string
	if f.File != "" && f.Line > 0 {
		parts = append(parts, fmt.Sprintf("%s:%d", f.File, f.Line))
	} else if f.File != "" {
		parts = append(parts, f.File)
	}
	if f.Stream != "" {
		parts = append(parts, "stream "+f.Stream)
	}
	if f.Seq > 0 {
		parts = append(parts, fmt.Sprintf("record %d", f.Seq))
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, ", ") + ": "
}

func difference(f audit.Finding) string {
	switch {
	case f.Expected != "" && f.Found != "":
		return fmt.Sprintf(" (expected %s, found %s)", f.Expected, f.Found)
	case f.Expected != "":
		return fmt.Sprintf(" (expected %s)", f.Expected)
	}
	return ""
}
