// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"strings"
)

// SecretsMode says which Secrets the authorities of a VerificationPolicy may refer
// to.
type SecretsMode string

const (
	// SecretsAny allows the Secrets of every namespace, as Tekton does.
	SecretsAny SecretsMode = "any"
	// SecretsOwnNamespace allows the Secrets of the policy's own namespace.
	SecretsOwnNamespace SecretsMode = "own-namespace"
)

const (
	policyKMSKey     = "trustedresources.policies.kms"
	policySecretsKey = "trustedresources.policies.secrets"
)

// Bounds of references to keys in a KMS. The longest reference that a cloud can
// need, an ARN with an alias, has about 350 bytes.
const (
	maxReference  = 512
	maxReferences = 100
)

// kmsSchemes are the KMS that Tekton supports. For every other scheme, the library
// that Tekton uses would run a program named after the scheme.
var kmsSchemes = []string{"awskms://", "azurekms://", "gcpkms://", "hashivault://", "openbao://"}

// schemesWithHost are the schemes whose references name the host that gets the
// request.
var schemesWithHost = []string{"awskms://", "azurekms://"}

// AllowKMS returns nil if a VerificationPolicy may refer to this key of a KMS. The
// error names the setting that forbids the reference.
//
// The comparison is of bytes: the reference is neither decoded nor changed, so that
// no second spelling of a reference exists that a KMS client would read differently.
func (c *Config) AllowKMS(reference string) error {
	if signer := c.Chains.Signers.KMS.KMSRef; signer != "" && reference == signer {
		return nil
	}
	if len(reference) <= maxReference && plain(reference) && slices.ContainsFunc(c.policyKMS, func(entry string) bool {
		return reference == entry || isPrefix(entry) && strings.HasPrefix(reference, entry)
	}) {
		return nil
	}
	return fmt.Errorf("the setting %s does not allow the key %q of a KMS", policyKMSKey, shortened(reference))
}

// AllowSecret returns nil if a VerificationPolicy of policyNamespace may refer to the
// Secrets of namespace. The error names the setting that forbids the reference.
func (c *Config) AllowSecret(policyNamespace, namespace string) error {
	if c.policySecrets != SecretsOwnNamespace || namespace == policyNamespace {
		return nil
	}
	return fmt.Errorf("the setting %s allows Secrets of the policy's own namespace only, found namespace %q", policySecretsKey, shortened(namespace))
}

// isPrefix reports whether an entry allows every reference that begins with the
// entry. A name must not be a prefix by accident: "hashivault://team" does not allow
// "hashivault://team-b", and "awskms://kms.example" does not allow
// "awskms://kms.example.attacker.example/…". So a prefix ends with a separator.
func isPrefix(entry string) bool { return !isAlphanumeric(entry[len(entry)-1]) }

// plain reports whether a reference is made of characters that need no encoding in
// a URL, and contains no "..".
func plain(reference string) bool {
	for i := range len(reference) {
		if !isAlphanumeric(reference[i]) && !strings.ContainsRune("-_./:", rune(reference[i])) {
			return false
		}
	}
	return !strings.Contains(reference, "..")
}

func isAlphanumeric(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9'
}

// setPolicyKMS sets the references that policies may name.
func (c *Config) setPolicyKMS(value string) (problem string) {
	entries := commaList(value)
	if len(entries) > maxReferences {
		return fmt.Sprintf("found %d references, expected at most %d", len(entries), maxReferences)
	}
	for i, entry := range entries {
		if problem := wrongReference(entry); problem != "" {
			return problem
		}
		if slices.Contains(entries[:i], entry) {
			return fmt.Sprintf("found %q twice", shortened(entry))
		}
	}
	c.policyKMS = entries
	return ""
}

// wrongReference says what is wrong with an entry of the list, or returns "".
func wrongReference(entry string) (problem string) {
	if len(entry) > maxReference {
		return fmt.Sprintf("found a reference of %d characters, expected at most %d", len(entry), maxReference)
	}
	scheme := slices.IndexFunc(kmsSchemes, func(scheme string) bool { return strings.HasPrefix(entry, scheme) })
	if scheme < 0 {
		return fmt.Sprintf("found %q, expected a reference that begins with one of: %s", shortened(entry), strings.Join(kmsSchemes, ", "))
	}
	if !plain(entry) {
		return fmt.Sprintf("found %q, expected letters, digits and -_./: only, and no \"..\"", shortened(entry))
	}
	if slices.Contains(schemesWithHost, kmsSchemes[scheme]) && !strings.Contains(entry[len(kmsSchemes[scheme]):], "/") {
		return fmt.Sprintf("found %q, which allows more than one host; expected the whole host and a slash, "+
			"such as awskms:/// (the hosts of AWS) or azurekms://vault.vault.azure.net/", shortened(entry))
	}
	return ""
}
