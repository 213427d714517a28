package observe

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Event is what is said about an object. Type is corev1's Normal or Warning.
type Event struct{ Type, Reason, Message string }

// Normal says what was done.
func Normal(reason, message string) Event {
	return Event{corev1.EventTypeNormal, reason, limited(message)}
}

// Warning says what could not be done, or what somebody should look at.
func Warning(reason, message string) Event {
	return Event{corev1.EventTypeWarning, reason, limited(message)}
}

// maxMessage is the API server's limit for an Event's message, in bytes.
const maxMessage = 1024

func limited(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	const cut = "…"
	return strings.ToValidUTF8(message[:maxMessage-len(cut)], "") + cut
}
