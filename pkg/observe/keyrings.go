// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"
	"strings"

	"go.uber.org/zap/zapcore"
	corev1 "k8s.io/api/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// KeyChanged means that a key of a KeyRing is in another state.
type KeyChanged struct {
	KeyRing     *corev1.ObjectReference
	Name, KeyID string
	State       v1alpha1.KeyState
}

// reasonsOfStates are the reasons of Events about keys.
var reasonsOfStates = map[v1alpha1.KeyState]string{
	v1alpha1.KeyPending:  v1alpha1.ReasonKeyPending,
	v1alpha1.KeyActive:   v1alpha1.ReasonKeyActive,
	v1alpha1.KeyRetiring: v1alpha1.ReasonKeyRetiring,
	v1alpha1.KeyRetired:  v1alpha1.ReasonKeyRetired,
	v1alpha1.KeyRevoked:  v1alpha1.ReasonKeyRevoked,
}

func (f KeyChanged) report() report {
	event := Normal(reasonsOfStates[f.State], fmt.Sprintf("Key %q is %s (%s)", f.Name, f.State, f.KeyID))
	level := zapcore.InfoLevel
	if f.State == v1alpha1.KeyRevoked {
		event, level = Warning(event.Reason, event.Message), zapcore.WarnLevel
	}
	return report{
		about: f.KeyRing, event: event,
		log:   logLine{level, "State of a key changed", []any{"keyRing", f.KeyRing.Name, "key", f.Name, "keyId", f.KeyID, "state", string(f.State)}},
		audit: f.record(),
	}
}

// KeyUntrusted means that no policy with injected keys trusts a key any more, and that
// Tekton's controller has seen that.
type KeyUntrusted struct {
	KeyRing     *corev1.ObjectReference
	Name, KeyID string
}

func (f KeyUntrusted) report() report {
	return report{
		about: f.KeyRing,
		event: Normal(v1alpha1.ReasonKeyUntrusted, fmt.Sprintf("No policy with the annotation %s trusts key %q any more (%s), and Tekton has seen that",
			v1alpha1.InjectKeysAnnotation, f.Name, f.KeyID)),
		log: logLine{zapcore.InfoLevel, "Key untrusted", []any{"keyRing", f.KeyRing.Name, "key", f.Name, "keyId", f.KeyID}},
	}
}

// RotationWaits means that a key cannot become active before something else happens.
type RotationWaits struct {
	KeyRing   *corev1.ObjectReference
	Step, Why string
}

func (f RotationWaits) report() report {
	return report{
		about: f.KeyRing, event: Warning(v1alpha1.ReasonRotationWaits, f.Why),
		log: logLine{zapcore.WarnLevel, "Rotation waits", []any{"keyRing", f.KeyRing.Name, "step", f.Step, "why", f.Why}},
	}
}

// PoliciesBehind means that policies trust an older key of a KeyRing, and not the active
// one: Tekton refuses what the active key signs.
type PoliciesBehind struct {
	KeyRing  *corev1.ObjectReference
	Name     string // of the active key
	Policies []string
}

func (f PoliciesBehind) report() report {
	policies := strings.Join(f.Policies, ", ")
	return report{
		about: f.KeyRing,
		event: Warning(v1alpha1.ReasonPolicyBehindRing, fmt.Sprintf("These VerificationPolicies trust an older key and not the active key %q: %s; add the key", f.Name, policies)),
		log:   logLine{zapcore.WarnLevel, "Policies do not trust the active key", []any{"keyRing", f.KeyRing.Name, "key", f.Name, "policies", policies}},
	}
}

// KeyVersionAvailable means that a KMS has a newer version of a key than those in the
// KeyRing. Nothing happens before somebody adds the version.
type KeyVersionAvailable struct {
	KeyRing            *corev1.ObjectReference
	Name, Ref, Version string
}

func (f KeyVersionAvailable) report() report {
	return report{
		about: f.KeyRing,
		event: Normal(v1alpha1.ReasonKeyVersionAvailable, fmt.Sprintf("The KMS has version %s of %s, which is newer than key %q. The KeyRing goes on with its version; "+
			"to add the new one: tkn-trust key generate --ring %s --kms %s --version %s", f.Version, f.Ref, f.Name, f.KeyRing.Name, f.Ref, f.Version)),
		log: logLine{zapcore.InfoLevel, "The KMS has a newer version of a key", []any{"keyRing", f.KeyRing.Name, "key", f.Name, "ref", f.Ref, "version", f.Version}},
	}
}
