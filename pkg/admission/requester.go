// SPDX-License-Identifier: Apache-2.0

// Package admission decides what happens to the writes of others: who is recorded
// as the requester of a resource, which references Tekton verifies, and which Pods
// wait for a verdict. All functions are pure.
package admission

// Requester is what the annotations of a resource say about who made its content.
type Requester struct {
	// RequestedBy is the user, who has the right to sign. Empty: nobody is known.
	RequestedBy string
	// NotAuthorized is the user, who does not have the right.
	NotAuthorized string
}

// Write is a request to create or change a resource.
type Write struct {
	// Writer is the user of the request.
	Writer string
	// Before is of the stored resource. It is empty if the resource is created.
	Before Requester
	// After is of the resource as the writer wants it.
	After Requester
	// SameContent reports that the request changes nothing of the content: of all that
	// Tekton's checksum covers, apart from the annotations of Requester.
	SameContent bool
}

// Effect is what happens to the annotations of a resource in a write.
type Effect string

// The effects.
const (
	// Keep: they stay as the writer wants them, which is as they were.
	Keep Effect = "keep"
	// Restore: they become what they were.
	Restore Effect = "restore"
	// Stamp: the writer becomes the requester.
	Stamp Effect = "stamp"
	// Remove: nobody is the requester any more.
	Remove Effect = "remove"
)

// Approves reports that the writer names another requester of the same content.
func (w Write) Approves() bool {
	return w.SameContent && w.After.RequestedBy != "" && w.After.RequestedBy != w.Before.RequestedBy
}

// NeedsRight reports whether Decide depends on the right of the writer to sign.
func (w Write) NeedsRight() bool { return !w.SameContent || w.Approves() }

// Decide returns what happens to the annotations, and what they become. maySign says
// whether the writer has the right to sign. Decide uses maySign only if NeedsRight
// reports true. If a request names no user, Decide records no requester.
func (w Write) Decide(maySign bool) (Effect, Requester) {
	switch {
	case w.NeedsRight() && maySign && w.Writer != "":
		return Stamp, Requester{RequestedBy: w.Writer}
	case !w.SameContent:
		return Remove, Requester{NotAuthorized: w.Writer}
	case w.After == w.Before:
		return Keep, w.Before
	}
	return Restore, w.Before
}
