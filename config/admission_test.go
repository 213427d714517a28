// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/ext"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// rewriting and refusing are the files of config/admission/ with the two kinds of policies.
var (
	rewriting = []string{"admission/500-rewrite-taskruns.yaml", "admission/501-rewrite-pipelineruns.yaml", "admission/510-hold-pods.yaml"}
	refusing  = []string{"admission/502-refuse-local-references.yaml", "admission/520-guard-pods.yaml", "admission/521-guard-connections.yaml", "admission/522-guard-namespaces.yaml"}
)

// enforced returns the expression that decides whether a namespace is enforced.
func enforced(t *testing.T) string {
	t.Helper()
	policy := decodeAll[registrationv1.MutatingAdmissionPolicy](t, rewriting[0], "MutatingAdmissionPolicy")[0]
	return policy.Spec.Variables[0].Expression
}

// YAML has no functions, so each policy has a copy of the expression.
func TestAdmission_HasTheSameExpressionInEachPolicy(t *testing.T) {
	want := registrationv1.Variable{Name: "enforced", Expression: enforced(t)}
	for _, file := range rewriting {
		for _, policy := range decodeAll[registrationv1.MutatingAdmissionPolicy](t, file, "MutatingAdmissionPolicy") {
			if got := policy.Spec.Variables[0]; got != want {
				t.Errorf("%s: the first variable of %s is %+v, want %+v", file, policy.Name, got, want)
			}
		}
	}
	for _, file := range refusing {
		for _, policy := range decodeAll[registrationv1.ValidatingAdmissionPolicy](t, file, "ValidatingAdmissionPolicy") {
			if file == "admission/522-guard-namespaces.yaml" {
				_, selects, found := strings.Cut(withoutSpace(want.Expression), "exists(labels,")
				condition := withoutSpace(policy.Spec.MatchConditions[1].Expression)
				if !found || !strings.Contains(condition, strings.TrimSuffix(selects, ")")) {
					t.Errorf("%s: the condition %s does not contain %s", file, condition, selects)
				}
				continue
			}
			if got := policy.Spec.Variables[0]; got != want {
				t.Errorf("%s: the first variable of %s is %+v, want %+v", file, policy.Name, got, want)
			}
		}
	}
}

func withoutSpace(expression string) string { return strings.Join(strings.Fields(expression), "") }

// Each policy has a binding for the namespaces that ClusterVerificationPolicies select.
func TestAdmission_BindsEachPolicyToTheSelectors(t *testing.T) {
	for _, file := range rewriting {
		bindings := decodeAll[registrationv1.MutatingAdmissionPolicyBinding](t, file, "MutatingAdmissionPolicyBinding")
		for _, policy := range decodeAll[registrationv1.MutatingAdmissionPolicy](t, file, "MutatingAdmissionPolicy") {
			expectSelectors(t, file, policy.Name, policy.Spec.ParamKind)
			if !slices.ContainsFunc(bindings, func(b registrationv1.MutatingAdmissionPolicyBinding) bool {
				return b.Spec.PolicyName == policy.Name && b.Spec.MatchResources == nil && isSelectors(b.Spec.ParamRef)
			}) {
				t.Errorf("%s: no binding of %s by cluster policy", file, policy.Name)
			}
		}
	}
	for _, file := range refusing {
		bindings := decodeAll[registrationv1.ValidatingAdmissionPolicyBinding](t, file, "ValidatingAdmissionPolicyBinding")
		for _, policy := range decodeAll[registrationv1.ValidatingAdmissionPolicy](t, file, "ValidatingAdmissionPolicy") {
			expectSelectors(t, file, policy.Name, policy.Spec.ParamKind)
			if !slices.ContainsFunc(bindings, func(b registrationv1.ValidatingAdmissionPolicyBinding) bool {
				return b.Spec.PolicyName == policy.Name && isSelectors(b.Spec.ParamRef)
			}) {
				t.Errorf("%s: no binding of %s by cluster policy", file, policy.Name)
			}
		}
	}
}

// expectSelectors expects that the parameter of a policy is a namespace.
func expectSelectors(t *testing.T, file, name string, kind *registrationv1.ParamKind) {
	t.Helper()
	if kind == nil || *kind != (registrationv1.ParamKind{APIVersion: "v1", Kind: "Namespace"}) {
		t.Errorf("%s: the parameter of %s is %+v, want a Namespace", file, name, kind)
	}
}

func isSelectors(ref *registrationv1.ParamRef) bool {
	return ref != nil && ref.Name == v1alpha1.PoliciesNamespace && ref.Namespace == "" &&
		ref.ParameterNotFoundAction != nil && *ref.ParameterNotFoundAction == registrationv1.AllowAction
}

// selects returns a function that evaluates the expression, with the parts of CEL that the
// API server allows and the expression uses.
func selects(t *testing.T) func(params any, namespace map[string]string) (bool, error) {
	t.Helper()
	env, err := cel.NewEnv(cel.HomogeneousAggregateLiterals(), cel.OptionalTypes(), ext.Strings(ext.StringsVersion(2)),
		cel.Variable("params", cel.DynType), cel.Variable("namespaceObject", cel.DynType))
	if err != nil {
		t.Fatal(err)
	}
	compiled, issues := env.Compile(enforced(t))
	if issues.Err() != nil {
		t.Fatal(issues.Err())
	}
	program, err := env.Program(compiled)
	if err != nil {
		t.Fatal(err)
	}
	return func(params any, namespace map[string]string) (bool, error) {
		metadata := map[string]any{"name": "any"}
		if namespace != nil {
			metadata["labels"] = namespace
		}
		result, _, err := program.Eval(map[string]any{"params": params, "namespaceObject": map[string]any{"metadata": metadata}})
		return result == types.True, err
	}
}

// enforcing is the namespace whose annotation has some lines.
func enforcing(lines string) any {
	return annotated(map[string]string{"trustedresources.tekton.dev/enforced": lines})
}

func annotated(annotations map[string]string) any {
	return map[string]any{"metadata": map[string]any{"annotations": annotations}}
}

// Selectors of a ClusterVerificationPolicy mean in CEL what they mean in Go.
func TestAdmission_SelectsAsLabelsSelectorDoes(t *testing.T) {
	requirements := []metav1.LabelSelectorRequirement{
		{Key: "stage", Operator: "In", Values: []string{"prod", "canary"}},
		{Key: "stage", Operator: "In", Values: []string{""}},
		{Key: "stage", Operator: "In", Values: []string{"", "prod"}},
		{Key: "stage", Operator: "NotIn", Values: []string{"prod"}},
		{Key: "stage", Operator: "NotIn", Values: []string{""}},
		{Key: "stage", Operator: "NotIn", Values: []string{"", "canary"}},
		{Key: "stage", Operator: "Exists"},
		{Key: "stage", Operator: "DoesNotExist"},
		{Key: "example.dev/team_a.b-c", Operator: "In", Values: []string{"X_y.z-1"}},
		{Key: "example.dev/team_a.b-c", Operator: "Exists"},
		{Key: "In", Operator: "In", Values: []string{"In"}},
	}
	namespaces := []map[string]string{
		nil,
		{"stage": ""},
		{"stage": "prod"},
		{"stage": "canary"},
		{"stage": "pro"},
		{"stage": "test", "example.dev/team_a.b-c": "X_y.z-1"},
		{"stage": "prod", "example.dev/team_a.b-c": "x_y.z-1"},
		{"Stage": "prod", "In": "In"},
	}
	matches := selects(t)
	for i, first := range requirements {
		for _, second := range requirements[i:] {
			selector, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{first, second}})
			if err != nil {
				t.Fatal(err)
			}
			for _, namespace := range namespaces {
				want := selector.Matches(labels.Set(namespace))
				if got, err := matches(enforcing(line(first)+";"+line(second)), namespace); err != nil || got != want {
					t.Errorf("%q selects %v: %t, %v, want %t", line(first)+";"+line(second), namespace, got, err, want)
				}
			}
		}
	}
}

// line returns a requirement in the form of the annotation.
func line(r metav1.LabelSelectorRequirement) string {
	if len(r.Values) == 0 {
		return r.Key + " " + string(r.Operator)
	}
	return r.Key + " " + string(r.Operator) + " " + strings.Join(r.Values, ",")
}

// Without a line, no namespace is selected. A requirement of an unknown form selects every
// namespace, so that a mistake lets no run start unverified.
func TestAdmission_SelectsWhatItDoesNotUnderstand(t *testing.T) {
	matches := selects(t)
	expect := func(params any, want bool) {
		t.Helper()
		if got, err := matches(params, map[string]string{"stage": "prod"}); err != nil || got != want {
			t.Errorf("%q: got %t, %v, want %t", params, got, err, want)
		}
	}
	for lines, want := range map[string]bool{
		"": false, "\n\n": false, "stage In prod": true, "stage In test": false, "stage In test\n\nstage In prod": true,
		"*": true, "stage In test\n*": true, "stage In test;*": false, "*;stage In prod": true,
		"team Exists": false, "team Exists ": true, "team DoesNotExist": true, "stage DoesNotExist": false, "team Exists;": false, "stage Exists;": true,
		"stage Unknown x": true, "stage in test": true, "stage": true, "stage In": true, "stage NotIn": true, "team Exists x": true,
		"stage In test ": true, "stage In  test": true, " stage In test": true, "stage  In test": true, " ": true, ";": true,
	} {
		expect(enforcing(lines), want)
	}
	expect(map[string]any{"metadata": map[string]any{}}, false)
	expect(annotated(map[string]string{"other": "*"}), false)
	expect(nil, true) // a binding by label
}
