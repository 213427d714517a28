// SPDX-License-Identifier: Apache-2.0

// Package inforce finds out whether the API server holds the Pods of TaskRuns, and
// whether it guards them. It does not look for policies: a policy comes into force some
// seconds after it was created, and a policy that exists may have been changed. It asks
// the API server, in dry runs, what would become of two Pods.
package inforce

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// State is what the API server does with the Pods of TaskRuns. The zero value claims
// nothing.
type State struct {
	// Held: new Pods get the scheduling gate.
	Held bool
	// Guarded: Pods of TaskRuns that Tekton did not create are refused.
	Guarded bool
	// ClusterPolicies is the revision of v1alpha1.ClusterPoliciesConfigMap by which the API
	// server holds Pods; empty if it knows none.
	ClusterPolicies string
	// Why says why Held or Guarded is false.
	Why string
}

// InForce reports whether nothing can run unverified.
func (s State) InForce() bool { return s.Held && s.Guarded }

// answer is what the API server says about a Pod.
type answer struct {
	pod *corev1.Pod
	err error
}

// judge returns the State that two answers show. The Pod of hold is one that our
// controller may create in a dry run. The Pod of guard is one that nobody but Tekton
// may create.
func judge(hold, guard answer) State {
	var s State
	var why []error
	switch {
	case hold.err != nil:
		why = append(why, fmt.Errorf("whether Pods are held is not known: %w", hold.err))
	case !held(hold.pod):
		why = append(why, errors.New("a new Pod of a TaskRun gets no scheduling gate"))
	default:
		s.Held, s.ClusterPolicies = true, hold.pod.Annotations[v1alpha1.ClusterPoliciesAnnotation]
	}
	switch {
	case guarded(guard.err):
		s.Guarded = true
	case guard.err != nil:
		why = append(why, fmt.Errorf("whether Pods are guarded is not known: %w", guard.err))
	default:
		why = append(why, errors.New("a Pod of a TaskRun that Tekton did not create is accepted"))
	}
	if err := errors.Join(why...); err != nil {
		s.Why = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return s
}

func held(pod *corev1.Pod) bool {
	for _, gate := range pod.Spec.SchedulingGates {
		if gate.Name == v1alpha1.SchedulingGate {
			return true
		}
	}
	return false
}

// guardPolicy is the policy in config/admission/520-guard-pods.yaml.
const guardPolicy = "pods." + v1alpha1.Group

// guarded reports whether the guard has refused a Pod. The API server refuses for many
// reasons, such as a missing right.
func guarded(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "ValidatingAdmissionPolicy '"+guardPolicy+"'")
}
