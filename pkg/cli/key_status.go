// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
)

func newKeyStatus(access *keyAccess) *cobra.Command {
	var format output
	command := &cobra.Command{
		Use:   "status [KEYRING]",
		Short: "Show the keys of KeyRings, and what they wait for",
		Long: `Show the keys of one KeyRing or of all, and what they wait for.

  SIGNED     resources with a signature of the key
  POLICIES   VerificationPolicies that trust the key, and how many trust another key
             that signs or signed, and not this one
  OPEN-RUNS  runs that can still need the key
  LAST-USED  how long ago the key verified a resource behind a run

The exit code is 1 if a KeyRing has no key that signs.`,
		Example: `  tkn-trust key status
  tkn-trust key status prod -o yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			tool, err := access.connect(cmd, &format)
			if err != nil {
				return err
			}
			var name string
			if len(args) > 0 {
				name = args[0]
			}
			rings, err := tool.some(cmd.Context(), name)
			if name == "" && errors.Is(err, errNoKeyRing) {
				fmt.Fprintln(cmd.ErrOrStderr(), "Warning: without a KeyRing, the keys of resources also sign Chains' attestations: "+whyShared)
			}
			if err != nil {
				return err
			}
			for i := range rings {
				warnShared(cmd.ErrOrStderr(), &rings[i])
			}
			err = format.write(tool.stdout, printed(rings, name), func(w io.Writer) error { return writeStatus(w, rings, time.Now()) })
			return cmp.Or(err, notReady(rings))
		},
	}
	format.add(command, "table", "json", "yaml")
	return command
}

// printed returns one KeyRing or, without a name, the list, as kubectl prints them.
func printed(rings []v1alpha1.KeyRing, name string) any {
	if name != "" {
		return withKind(&rings[0])
	}
	list := &v1alpha1.KeyRingList{TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "KeyRingList"}}
	for i := range rings {
		list.Items = append(list.Items, *withKind(&rings[i]))
	}
	return list
}

// whyShared says why resources and attestations should not share a key.
const whyShared = "their content comes from the authors of runs, and cosign accepts every statement of a key about an image"

// warnShared warns of a key that signs Chains' attestations, too.
func warnShared(w io.Writer, ring *v1alpha1.KeyRing) {
	if separate := meta.FindStatusCondition(ring.Status.Conditions, v1alpha1.KeyRingAttestationKeySeparate); separate != nil && separate.Status == metav1.ConditionFalse {
		fmt.Fprintf(w, "Warning: KeyRing %s: %s\n", ring.Name, separate.Message)
	}
}

// notReady returns an error about the first KeyRing with no key that signs.
func notReady(rings []v1alpha1.KeyRing) error {
	for i := range rings {
		ready := meta.FindStatusCondition(rings[i].Status.Conditions, v1alpha1.KeyRingReady)
		switch {
		case ready == nil:
			return fmt.Errorf("KeyRing %s cannot sign yet: %w: the controller has not read it; is it running?", rings[i].Name, errBlocked)
		case ready.Status != metav1.ConditionTrue:
			return fmt.Errorf("KeyRing %s cannot sign: %w: %s", rings[i].Name, errBlocked, ready.Message)
		}
	}
	return nil
}

// writeStatus prints a table for each KeyRing.
func writeStatus(w io.Writer, rings []v1alpha1.KeyRing, now time.Time) error {
	for i := range rings {
		if i > 0 {
			fmt.Fprintln(w)
		}
		ring := &rings[i]
		fmt.Fprintf(w, "KeyRing %s%s\n", ring.Name, summary(ring))
		const padding = 2
		t := tabwriter.NewWriter(w, 0, 0, padding, ' ', 0)
		fmt.Fprintln(t, "NAME\tSTATE\tSIGNED\tPOLICIES\tOPEN-RUNS\tLAST-USED\tBLOCKED-BY")
		for _, key := range ring.Status.Keys {
			fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", key.Name, key.State, key.Signed,
				policies(key), orDash(key.OpenRuns), age(key.LastVerified, now), blockedBy(ring, key))
		}
		for _, key := range ring.Spec.Keys {
			if keyring.StatusOf(&ring.Status, key.Name) == nil {
				fmt.Fprintf(t, "%s\t-\t-\t-\t-\t-\t%s\n", key.Name, notRead.text)
			}
		}
		if err := t.Flush(); err != nil {
			return err
		}
		sayVersions(w, ring)
	}
	return nil
}

// sayVersions names the command that adds a newer version of a key to the KeyRing.
func sayVersions(w io.Writer, ring *v1alpha1.KeyRing) {
	for i := range ring.Status.Keys {
		key := &ring.Status.Keys[i]
		if newer := keyring.NewerVersion(ring, key); newer != "" {
			ref := keyring.SpecOf(ring, key.Name).KMS.Ref
			fmt.Fprintf(w, "%s has version %s, which is newer than key %q. Add it: tkn-trust key generate --ring %s --kms %s --version %s\n", ref, newer, key.Name, ring.Name, ref, newer)
		}
	}
}

// summary says what a KeyRing does now.
func summary(ring *v1alpha1.KeyRing) string {
	text := ""
	rotated := meta.FindStatusCondition(ring.Status.Conditions, v1alpha1.KeyRingRotated)
	if rotated != nil && rotated.Status != metav1.ConditionTrue {
		text += ": " + rotated.Reason
		if target := ring.Status.Target; target != "" && target != ring.Status.Active {
			text += " " + target
		}
	}
	if due := meta.FindStatusCondition(ring.Status.Conditions, v1alpha1.KeyRingRotationDue); due != nil && due.Status == metav1.ConditionTrue {
		text += "; a rotation is due"
	}
	return text
}

// policies says how many policies trust a key. That is not known of a key that makes no
// signature.
func policies(key v1alpha1.RingKeyStatus) string {
	switch {
	case key.Policies == nil:
		return "-"
	case key.Unready > 0:
		return fmt.Sprintf("%d, %d unready", *key.Policies, key.Unready)
	}
	return strconv.FormatInt(*key.Policies, 10)
}

func orDash(count int64) string {
	if count == 0 {
		return "-"
	}
	return strconv.FormatInt(count, 10)
}

func age(at *metav1.Time, now time.Time) string {
	if at == nil {
		return "-"
	}
	return duration.HumanDuration(now.Sub(at.Time))
}

// blockedBy says what the key waits for: the message of the condition Rotated belongs to one
// key.
func blockedBy(ring *v1alpha1.KeyRing, key v1alpha1.RingKeyStatus) string {
	rotated := meta.FindStatusCondition(ring.Status.Conditions, v1alpha1.KeyRingRotated)
	switch {
	case key.Problem != "":
		return key.Problem
	case rotated == nil || rotated.Status == metav1.ConditionTrue || key.Name != blockedKey(ring, keyring.Step(rotated.Reason)):
		return "-"
	}
	return cmp.Or(rotated.Message, rotated.Reason)
}

// blockedKey returns the name of the key that a step is about.
func blockedKey(ring *v1alpha1.KeyRing, at keyring.Step) string {
	status := &ring.Status
	wanted := func(v1alpha1.RingKeyStatus) bool { return false }
	switch {
	case at == keyring.Untrust:
		wanted = func(key v1alpha1.RingKeyStatus) bool {
			return (key.State == v1alpha1.KeyRevoked || key.State == v1alpha1.KeyRetired) && key.KeyID != "" && key.UntrustedSince == nil
		}
	case status.Active != status.Target:
		return status.Target
	case at == keyring.Drain || at == keyring.Pause:
		wanted = func(key v1alpha1.RingKeyStatus) bool { return key.State == v1alpha1.KeyRetiring }
	}
	if names := namesIn(status, wanted); len(names) > 0 {
		return names[0]
	}
	return ""
}
