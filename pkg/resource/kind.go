package resource

import "strings"

// Kind is the kind of a signable resource, spelled as in its TypeMeta.
type Kind string

// The signable kinds.
const (
	Task       Kind = "Task"
	Pipeline   Kind = "Pipeline"
	StepAction Kind = "StepAction"
)

// Kinds are all signable kinds, in the order in which users read them.
var Kinds = []Kind{Task, Pipeline, StepAction}

// ConfigName is the kind as the keys of chains-config spell it
// (artifacts.<name>.signer).
func (k Kind) ConfigName() string { return strings.ToLower(string(k)) }
