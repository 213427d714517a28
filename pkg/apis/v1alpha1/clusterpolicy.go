// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	pipelinev1alpha1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ClusterVerificationPolicy says which keys must have signed the resources behind the runs
// of all selected namespaces. Policies have an order: first the tier Override, then the
// VerificationPolicies of the namespace itself, then the tier Default. In a tier, the
// policies with the lowest priority number that match the source of a resource decide.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=cvp,categories=tekton,path=clusterverificationpolicies
// +kubebuilder:printcolumn:name="Tier",type=string,JSONPath=`.spec.tier`
// +kubebuilder:printcolumn:name="Priority",type=integer,JSONPath=`.spec.priority`
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Selected",type=integer,JSONPath=`.status.namespaces.selected`
// +kubebuilder:printcolumn:name="Conflicting",type=integer,JSONPath=`.status.namespaces.conflicting`,priority=1
// +kubebuilder:printcolumn:name="Synced",type=integer,JSONPath=`.status.namespaces.synced`,priority=1
// +kubebuilder:printcolumn:name="Enforced",type=string,JSONPath=`.status.conditions[?(@.type=="Enforced")].status`
// +kubebuilder:printcolumn:name="Passed",type=integer,JSONPath=`.status.verdicts.passed`
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.verdicts.failed`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ClusterVerificationPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ClusterVerificationPolicySpec `json:"spec"`
	// +optional
	Status ClusterVerificationPolicyStatus `json:"status,omitempty"`
}

// ClusterVerificationPolicyList is a list of ClusterVerificationPolicies.
//
// +kubebuilder:object:root=true
type ClusterVerificationPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ClusterVerificationPolicy `json:"items"`
}

// ClusterVerificationPolicySpec is what the administrator wants.
//
// +kubebuilder:validation:XValidation:rule="self.mode == 'skip' ? !has(self.authorities) : has(self.authorities) && size(self.authorities) > 0",message="modes enforce and warn need authorities, and mode skip has none"
// +kubebuilder:validation:XValidation:rule="self.mode != 'skip' || self.resources.all(r, has(r.source))",message="mode skip needs a source in each entry of resources, and no pattern"
// +kubebuilder:validation:XValidation:rule="self.mode != 'skip' || !has(self.materialize) || !self.materialize",message="mode skip cannot be materialized: Tekton has no policy that ends a verification"
type ClusterVerificationPolicySpec struct {
	// Tier says whether the policy comes before the VerificationPolicies of a namespace
	// (Override), or counts only where none of them matches (Default).
	Tier PolicyTier `json:"tier"`
	// Priority orders the policies of a tier: the lowest number with a match decides.
	// Policies with the same number all count.
	// +optional
	// +kubebuilder:default=500
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	Priority int32 `json:"priority"`
	// NamespaceSelector selects the namespaces whose runs are verified; {} selects all.
	// Somebody who may change the labels of a namespace decides which policies select it.
	NamespaceSelector metav1.LabelSelector `json:"namespaceSelector"`
	// Resources are the sources that the policy is for. One match is enough.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	Resources []PolicyResource `json:"resources"`
	// Mode is what happens to a run with a resource that no authority has signed.
	Mode PolicyMode `json:"mode"`
	// Authorities are the keys. A signature of one of them is enough.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	Authorities []PolicyAuthority `json:"authorities,omitempty"`
	// Materialize lets the controller write the policy into each selected namespace as a
	// VerificationPolicy of Tekton, so that Tekton itself refuses runs. That is done only
	// where Tekton would decide the same: where no policy that comes before this one has
	// sources in common with it. The controller needs config/materialize.
	// +optional
	Materialize bool `json:"materialize,omitempty"`
}

// PolicyTier is the place of a policy before or after those of the namespaces.
//
// +kubebuilder:validation:Enum=Override;Default
type PolicyTier string

// The tiers.
const (
	TierOverride PolicyTier = "Override"
	TierDefault  PolicyTier = "Default"
)

// PolicyMode is what happens to a run with a resource that no authority has signed.
//
// +kubebuilder:validation:Enum=enforce;warn;skip
type PolicyMode string

// The modes: the run is refused; it runs, and an Event says so; the resource is not
// verified.
const (
	PolicyEnforce PolicyMode = "enforce"
	PolicyWarn    PolicyMode = "warn"
	PolicySkip    PolicyMode = "skip"
)

// PolicyResource matches the sources of resources: URIs, as Tekton's resolvers report them.
//
// +kubebuilder:validation:XValidation:rule="has(self.source) != has(self.pattern)",message="an entry of resources has either source or pattern"
type PolicyResource struct {
	// Source is the text that the source has, or begins with if Source ends with "*".
	// $(namespace) stands for the namespace of the run.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.size() > 0 && self.matches('^[^*\\\\s]*[*]?$')",message="a source has no white space, and * only at its end"
	Source string `json:"source,omitempty"`
	// Pattern is a regular expression (RE2) for the whole source.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.size() > 0 && !self.startsWith('^') && !self.endsWith('$') && ''.matches('^(?:' + self + ')$') in [true, false]",message="a pattern is a regular expression without ^ at its beginning and $ at its end: it always matches the whole source"
	Pattern string `json:"pattern,omitempty"`
}

// PolicyAuthority is one key, or the keys of a KeyRing.
//
// +kubebuilder:validation:XValidation:rule="[has(self.data), has(self.secretRef), has(self.kms), has(self.keyRing)].exists_one(x, x)",message="an authority has exactly one of data, secretRef, kms and keyRing"
// +kubebuilder:validation:XValidation:rule="!has(self.keyRing) || !has(self.hashAlgorithm) || self.hashAlgorithm == 'sha256'",message="keys of a KeyRing sign with sha256"
type PolicyAuthority struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// Data is a public key in PEM.
	// +optional
	// +kubebuilder:validation:MaxLength=16384
	Data string `json:"data,omitempty"`
	// SecretRef is a public key in a Secret of the controller's namespace.
	// +optional
	SecretRef *PolicySecret `json:"secretRef,omitempty"`
	// KMS is a reference to a key in a key management service, such as hashivault://vendor.
	// The controller reads the public key every 5 minutes.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	KMS string `json:"kms,omitempty"`
	// KeyRing "active" stands for the keys of the KeyRing that serves the namespace of the
	// run, as far as they are to be trusted; without a KeyRing, for the keys of the
	// signing secret.
	// +optional
	// +kubebuilder:validation:Enum=active
	KeyRing string `json:"keyRing,omitempty"`
	// HashAlgorithm is the algorithm of the signature.
	// +optional
	// +kubebuilder:default=sha256
	// +kubebuilder:validation:Enum=sha224;sha256;sha384;sha512
	HashAlgorithm pipelinev1alpha1.HashAlgorithm `json:"hashAlgorithm,omitempty"`
}

// KeyRingActive is the value of PolicyAuthority.KeyRing.
const KeyRingActive = "active"

// PolicySecret names an entry of a Secret in the namespace of the controller.
type PolicySecret struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`
}

// ClusterVerificationPolicyStatus is what the controller observed.
type ClusterVerificationPolicyStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// +optional
	Namespaces PolicyNamespaces `json:"namespaces,omitempty"`
	// Authorities are the keys of the policy, as they were read last.
	// +optional
	// +listType=map
	// +listMapKey=name
	Authorities []PolicyAuthorityStatus `json:"authorities,omitempty"`
	// Verdicts count what the policy decided before runs started.
	// +optional
	Verdicts PolicyVerdicts `json:"verdicts,omitempty"`
}

// PolicyNamespaces counts namespaces.
type PolicyNamespaces struct {
	// Selected is the number of namespaces that the policy selects.
	Selected int32 `json:"selected"`
	// Synced is the number of selected namespaces that have the VerificationPolicy, if the
	// policy is materialized.
	// +optional
	Synced *int32 `json:"synced,omitempty"`
	// NotSynced are the first namespaces that do not have the VerificationPolicy as it
	// should be, by name.
	// +optional
	// +listType=map
	// +listMapKey=namespace
	// +kubebuilder:validation:MaxItems=20
	NotSynced []PolicyNamespace `json:"notSynced,omitempty"`
	// Conflicting is the number of selected namespaces in which the policy does not have the
	// effect that somebody who reads the policy expects.
	// +optional
	Conflicting int32 `json:"conflicting,omitempty"`
	// Conflicts are the first of these namespaces, by name.
	// +optional
	// +listType=map
	// +listMapKey=namespace
	// +kubebuilder:validation:MaxItems=20
	Conflicts []PolicyNamespace `json:"conflicts,omitempty"`
}

// MaxPolicyNamespaces bounds the lists in PolicyNamespaces.
const MaxPolicyNamespaces = 20

// PolicyNamespace says what is wrong with a policy in one namespace.
type PolicyNamespace struct {
	Namespace string `json:"namespace"`
	Reason    string `json:"reason"`
	Message   string `json:"message"`
}

// PolicyAuthorityStatus is the public key of an authority.
type PolicyAuthorityStatus struct {
	Name string `json:"name"`
	// KeyID is the ID of the key: the hex SHA-256 of its DER form.
	// +optional
	KeyID string `json:"keyID,omitempty"`
	// PublicKey is the key in PEM. It stays in use while the authority cannot be read.
	// +optional
	PublicKey string `json:"publicKey,omitempty"`
	// Problem says why the authority could not be read last.
	// +optional
	Problem string `json:"problem,omitempty"`
}

// PolicyVerdicts counts verdicts.
type PolicyVerdicts struct {
	// Since is when counting began: with the first verdict on this generation.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// +optional
	Passed int64 `json:"passed,omitempty"`
	// +optional
	Failed int64 `json:"failed,omitempty"`
	// Skipped counts the resources that a policy in mode skip did not verify.
	// +optional
	Skipped int64 `json:"skipped,omitempty"`
	// +optional
	LastFailure *metav1.Time `json:"lastFailure,omitempty"`
}

// Conditions of a ClusterVerificationPolicy.
const (
	// PolicyAccepted: the policy is usable, and part of each decision.
	PolicyAccepted = "Accepted"
	// PolicyEnforced: the API server holds the Pods of runs in each selected namespace.
	PolicyEnforced = "Enforced"
	// PolicyMaterialized: each selected namespace has the VerificationPolicy. The condition
	// is absent if spec.materialize is false.
	PolicyMaterialized = "Materialized"
	// PolicyProtected: the API server refuses that others change the VerificationPolicies.
	// The condition is absent if spec.materialize is false.
	PolicyProtected = "Protected"
	// PolicyReady summarizes the other conditions.
	PolicyReady = "Ready"
)

// Reasons of these conditions.
const (
	PolicyInForce = "InForce"
	// PolicyInvalidSpec: the API server accepted a spec that cannot be used.
	PolicyInvalidSpec = "InvalidSpec"
	// PolicyInvalidKey: the key of an authority was never read.
	PolicyInvalidKey = "InvalidKey"
	// PolicyNotRead: the controller has not read the last change yet.
	PolicyNotRead = "NotRead"
	// PolicyKeysKept: the key of an authority cannot be read now.
	PolicyKeysKept = "KeysKept"
	// PolicyTooLarge: all policies together are too large.
	PolicyTooLarge = "TooLarge"
	// PolicyNotHeld: the API server does not hold, or does not guard, the Pods of runs.
	PolicyNotHeld = "NotHeld"
	// PolicyNotEnforcing: the mode of the policy is not enforce.
	PolicyNotEnforcing = "NotEnforcing"
	// PolicySynced: all selected namespaces have the VerificationPolicy.
	PolicySynced = "Synced"
	// PolicyNotYetSynced: the VerificationPolicy was not written yet, or the last write failed.
	PolicyNotYetSynced = "NotSynced"
	// PolicyOverlaps: another policy, which comes first, has sources in common.
	PolicyOverlaps = "Overlaps"
	// PolicyNotExpressible: there can be no such VerificationPolicy.
	PolicyNotExpressible = "NotExpressible"
	// PolicyNotPermitted: the controller may not write VerificationPolicies.
	PolicyNotPermitted = "NotPermitted"
	// PolicyConflicting: another policy, which must also pass, trusts no key of this policy.
	PolicyConflicting = "Conflicting"
	// PolicyNamespaceBroken: Tekton refuses each run with a resolver in the namespace.
	PolicyNamespaceBroken = "NamespaceBroken"
	// PolicyNotGuarded: the admission policy that protects the VerificationPolicies is absent.
	PolicyNotGuarded = "NotGuarded"
)

// ClusterPoliciesConfigMap has the policies that are in force, with their keys, in
// PoliciesNamespace. Each replica of the controller decides by it.
const ClusterPoliciesConfigMap = "cluster-policies"

// PoliciesNamespace has the same name in every installation, because admission policies
// name it. Its annotations EnforcedAnnotation and ClusterPoliciesAnnotation are the
// parameters of the admission policies.
const PoliciesNamespace = GateProbeNamespace

// RevisionKey in ClusterPoliciesConfigMap identifies the state of the other keys, which are
// the names of policies. These have no "_".
const RevisionKey = "_revision"

const (
	// EnforcedAnnotation has a line for each selector of enforced namespaces.
	EnforcedAnnotation = Group + "/enforced"
	// ClusterPoliciesAnnotation is the revision of ClusterPoliciesConfigMap that the line
	// belongs to. The API server copies it to the Pod of a dry run.
	ClusterPoliciesAnnotation = Group + "/cluster-policies"
)

const (
	// MaterializedLabel marks the VerificationPolicies that the controller writes. Its value
	// is the name of the VerificationPolicy.
	MaterializedLabel = Group + "/cluster-policy"
	// MaterializedAnnotation on such a VerificationPolicy has the name, the UID and the
	// generation of the ClusterVerificationPolicy, with "/" between them.
	MaterializedAnnotation = Group + "/cluster-policy-generation"
	// MaterializedGuard is the name of the ValidatingAdmissionPolicy, and of its binding, that
	// protects these VerificationPolicies. See config/materialize.
	MaterializedGuard = "materialized-policies.guard." + Group
)
