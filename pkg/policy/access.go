// SPDX-License-Identifier: Apache-2.0

package policy

import "errors"

// Access says which keys policies may refer to. It is immutable and comparable.
type Access interface {
	// AllowKMS returns nil if policies may refer to this key of a KMS. The error
	// names the setting that forbids it. It is shown to the author of the policy.
	AllowKMS(reference string) error
	// AllowSecret returns nil if the policies of a namespace may refer to the
	// Secrets of secretNamespace. The error is as in AllowKMS.
	AllowSecret(policyNamespace, secretNamespace string) error
}

// errNotAllowed means that a policy refers to a key that it may not refer to. The key
// is not read: nothing is known of the signatures that it verifies.
var errNotAllowed = errors.New("the key is not allowed")

// access returns what policies may refer to at this moment.
func (k *Keys) access() Access {
	if k.sources.Access == nil {
		return inlineOnly{}
	}
	return k.sources.Access()
}

// inlineOnly allows inline keys only.
type inlineOnly struct{}

var errInlineOnly = errors.New("only inline keys are")

func (inlineOnly) AllowKMS(string) error            { return errInlineOnly }
func (inlineOnly) AllowSecret(string, string) error { return errInlineOnly }
