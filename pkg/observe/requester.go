// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"go.opentelemetry.io/otel/attribute"
	"go.uber.org/zap/zapcore"
)

// RequesterDecided means that the webhook decided who is the requester of a resource.
// There is no Event: the object may not exist yet, and the write may still be refused.
// The controller emits an Event on a resource that it does not sign.
type RequesterDecided struct {
	Kind, Namespace, Name string
	Writer                string
	// Effect is that of admission.Write.
	Effect string
}

func (f RequesterDecided) report() report {
	return report{
		log: logLine{zapcore.InfoLevel, "Requester decided", []any{
			"kind", f.Kind, "namespace", f.Namespace, "name", f.Name, "writer", f.Writer, "effect", f.Effect}},
		count: counted{requesters, []attribute.KeyValue{attribute.String("kind", f.Kind), attribute.String("effect", f.Effect)}},
	}
}
