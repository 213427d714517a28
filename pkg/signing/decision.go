// Package signing decides whether a resource must be signed, and signs it.
package signing

// SignatureState is what the signature on a resource turned out to be.
type SignatureState string

const (
	// Unsigned: there is no signature.
	Unsigned SignatureState = "Unsigned"
	// Active: it verifies with the active key.
	Active SignatureState = "Active"
	// Superseded: it verifies with another key of our ring.
	Superseded SignatureState = "Superseded"
	// Foreign: it verifies only with an authority of a policy.
	Foreign SignatureState = "Foreign"
	// Invalid: it verifies with nothing we know. Either the content changed
	// after it was signed, or it never was a signature of this resource.
	Invalid SignatureState = "Invalid"
)

// Reason says why a resource is signed. The values appear in Events, logs and
// metrics.
type Reason string

const (
	// NotNeeded: the resource is left as it is.
	NotNeeded Reason = ""
	// FirstSignature: it had none.
	FirstSignature Reason = "Unsigned"
	// KeyRotated: it was signed with a key of ours that is not active any more.
	KeyRotated Reason = "KeyRotated"
	// ContentChanged: its signature does not verify, a re-sign after change.
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
