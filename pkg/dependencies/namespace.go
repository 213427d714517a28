// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"fmt"

	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// Repositories knows in which repositories this installation stores bundles.
type Repositories interface {
	// Namespace returns the namespace whose resources a repository holds. ok is
	// false if this installation stores no bundles there.
	Namespace(repository string) (namespace string, ok bool)
}

// inClaimedNamespace returns the finding. It fails if the URI of the source names a
// namespace, and the content belongs to another one, or to none. Policies match
// the URI: without this check, a resource that was signed in one namespace passes
// as a resource of every namespace that the resource is copied to.
func (c *collection) inClaimedNamespace(f finding) finding {
	claimed, _, ok := parseClusterURI(f.source.URI)
	if !ok {
		claimed, ok = c.Repositories.Namespace(f.source.URI)
	}
	if f.err != nil || !ok || f.namespace == claimed {
		return f
	}
	return f.failed(policy.Unavailable{ // users choose all three texts
		Reason:  policy.NamespaceMismatch,
		Message: fmt.Sprintf("the content belongs to namespace %.80q, expected %.80q as in its source %.300s", f.namespace, claimed, f.source.URI),
	})
}
