// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	corev1 "k8s.io/api/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// ClusterPolicyReady means that a ClusterVerificationPolicy came into force, or is not in
// force any more.
type ClusterPolicyReady struct {
	Policy *corev1.ObjectReference
	Ready  bool
	// Why is the message of the condition Ready.
	Why string
}

func (f ClusterPolicyReady) report() report {
	if f.Ready {
		message := "The policy is in force"
		if f.Why != "" {
			message += "; " + f.Why
		}
		return report{
			about: f.Policy, event: Normal(v1alpha1.ReasonPolicyInForce, message),
			log:   logLine{zapcore.InfoLevel, "ClusterVerificationPolicy in force", []any{"policy", f.Policy.Name, "why", f.Why}},
			audit: f.record(),
		}
	}
	return report{
		about: f.Policy, event: Warning(v1alpha1.ReasonPolicyNotInForce, "The policy is not in force: "+f.Why),
		log:   logLine{zapcore.WarnLevel, "ClusterVerificationPolicy not in force", []any{"policy", f.Policy.Name, "why", f.Why}},
		audit: f.record(),
	}
}

// ClusterPolicyConflicts means that a policy conflicts with others in another number of
// namespaces than before.
type ClusterPolicyConflicts struct {
	Policy     *corev1.ObjectReference
	Namespaces v1alpha1.PolicyNamespaces
}

func (f ClusterPolicyConflicts) report() report {
	n := f.Namespaces
	if n.Conflicting == 0 {
		return report{
			about: f.Policy, event: Normal(v1alpha1.ReasonPolicyConflictsEnded, "The policy conflicts with no other policy any more"),
			log: logLine{zapcore.InfoLevel, "ClusterVerificationPolicy without conflicts", []any{"policy", f.Policy.Name}},
		}
	}
	message := fmt.Sprintf("The policy conflicts with others in %d of %d namespaces, such as %s: %s", n.Conflicting, n.Selected, n.Conflicts[0].Namespace, n.Conflicts[0].Message)
	return report{
		about: f.Policy, event: Warning(v1alpha1.ReasonPolicyConflicts, message),
		log: logLine{zapcore.WarnLevel, "ClusterVerificationPolicy conflicts with others", []any{
			"policy", f.Policy.Name, "conflicting", n.Conflicting, "namespace", n.Conflicts[0].Namespace, "why", n.Conflicts[0].Message,
		}},
	}
}

// ClusterPoliciesHeld means that the objects of policies are gone together with their
// CustomResourceDefinition. The policies stay in force.
type ClusterPoliciesHeld struct{ Policies []string }

func (f ClusterPoliciesHeld) report() report {
	return report{log: logLine{zapcore.ErrorLevel,
		"The CustomResourceDefinition of ClusterVerificationPolicies was deleted; the policies stay in force. " +
			"Create the policies again, or delete ConfigMap " + v1alpha1.PoliciesNamespace + "/" + v1alpha1.ClusterPoliciesConfigMap + " to end them",
		[]any{"policies", strings.Join(f.Policies, ", ")}}}
}

// ClusterPoliciesRewritten means that somebody else wrote the ConfigMap of the policies, in a
// form that cannot be read.
type ClusterPoliciesRewritten struct{ Err error }

func (f ClusterPoliciesRewritten) report() report {
	return report{log: logLine{zapcore.ErrorLevel, "The ConfigMap of the ClusterVerificationPolicies cannot be read, and is written anew",
		[]any{"namespace", v1alpha1.PoliciesNamespace, "name", v1alpha1.ClusterPoliciesConfigMap, zap.Error(f.Err)}}}
}
