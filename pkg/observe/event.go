// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Event is the content of a Kubernetes Event. Type is Normal or Warning of
// corev1.
type Event struct{ Type, Reason, Message string }

// Normal returns an Event about something that the controller did.
func Normal(reason, message string) Event {
	return Event{corev1.EventTypeNormal, reason, limited(message)}
}

// Warning returns an Event about something that needs attention.
func Warning(reason, message string) Event {
	return Event{corev1.EventTypeWarning, reason, limited(message)}
}

// maxMessage is the API server's limit for the message of an Event, in bytes.
const maxMessage = 1024

func limited(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	const ellipsis = "…"
	return strings.ToValidUTF8(message[:maxMessage-len(ellipsis)], "") + ellipsis
}
