// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
)

// consequences says what a revocation does.
func consequences(before, after *v1alpha1.KeyRing, name string) []string {
	lines := []string{fmt.Sprintf("To revoke key %q of KeyRing %s cannot be undone.", name, before.Name)}
	target := keyring.Target(after)
	switch {
	case !keyring.IsInUse(before, name):
	case target == "":
		lines = append(lines, "- No other key can sign: nothing is signed until there is another key.")
	default:
		lines = append(lines, fmt.Sprintf("- Key %q signs instead, as soon as it can.", target))
	}
	lines = append(lines, "- Policies with injected keys stop to trust the key. Change all other policies by hand. Runs of resources with its signature then fail.")
	status := keyring.StatusOf(&before.Status, name)
	switch {
	case status == nil || status.Signed == 0:
	case keyring.SpecOf(after, name).Revoked.Hold:
		lines = append(lines, fmt.Sprintf("- %d resources keep the signature of the key, so their runs fail (--hold).", status.Signed))
	case target == "":
		lines = append(lines, fmt.Sprintf("- %d resources have a signature of the key, and get no other one before there is another key.", status.Signed))
	default:
		lines = append(lines, fmt.Sprintf("- %d resources are signed again. A thief may have changed them; --hold prevents that.", status.Signed))
	}
	return lines
}

// confirm asks for the name of the key. Without a terminal nobody can be asked, so the
// answer is no.
func confirm(in io.Reader, out io.Writer, name string) error {
	file, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return errors.New("nothing is changed: there is no terminal to ask whether you are sure; repeat the command with --yes")
	}
	fmt.Fprintf(out, "Write the name of the key to revoke it: ")
	answer, err := bufio.NewReader(file).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(answer) != name {
		return fmt.Errorf("nothing is changed: the answer is %q, expected %q", strings.TrimSpace(answer), name)
	}
	return nil
}
