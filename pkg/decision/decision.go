// Package decision decides whether a resource must be signed, and signs it.
package decision

// SignatureState is what the signature on a resource turned out to be.
type SignatureState string

// The states of a signature.
const (
	// Unsigned means: there is no signature.
	Unsigned SignatureState = "Unsigned"
	// Active means: it verifies with the active key.
	Active SignatureState = "Active"
	// Superseded means: it verifies with another key of our ring.
	Superseded SignatureState = "Superseded"
	// Foreign means: it verifies only with an authority of a policy.
	Foreign SignatureState = "Foreign"
	// Invalid means: it verifies with nothing we know. Either the content changed
	// after it was signed, or it never was a signature of this resource.
	Invalid SignatureState = "Invalid"
)

// Reason says why a resource is signed. The values appear in Events, logs and
// metrics.
type Reason string

// The reasons to sign, and the one not to.
const (
	// NotNeeded means: the resource is left as it is.
	NotNeeded Reason = ""
	// FirstSignature means: it had none.
	FirstSignature Reason = "Unsigned"
	// KeyRotated means: it was signed with a key of ours that is not active any more.
	KeyRotated Reason = "KeyRotated"
	// ContentChanged means: its signature does not verify, a re-sign after change.
	ContentChanged Reason = "ContentChanged"
)

// Decide is what a signature in some state asks for, on a resource that is
// selected, not being deleted, and of a kind that has a signer.
func Decide(state SignatureState) Reason {
	switch state {
	case Unsigned:
		return FirstSignature
	case Superseded:
		return KeyRotated
	case Invalid:
		return ContentChanged
	case Active, Foreign:
	}
	return NotNeeded
}
