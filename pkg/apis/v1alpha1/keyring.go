// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DefaultKeyRing is the name of the ring that serves the namespaces that no other ring
// selects.
const DefaultKeyRing = "default"

// CanaryNamespace has, for some seconds, the objects with which the controller finds out
// which VerificationPolicies Tekton's controller has seen.
const CanaryNamespace = "tekton-chains-canary"

// KeyRing is the set of keys that sign the resources of some namespaces, and what the
// owner of the keys wants to happen with them. It counts only in the namespace of the
// controller. A cluster without a KeyRing signs with the keys of the signing secret.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=tekton
// +kubebuilder:printcolumn:name="Active",type=string,JSONPath=`.status.active`
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.status.target`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Rotated",type=string,JSONPath=`.status.conditions[?(@.type=="Rotated")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="(self.metadata.name == 'default') != has(self.spec.namespaceSelector)",message="KeyRing default has no namespaceSelector, and every other KeyRing needs one"
type KeyRing struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec KeyRingSpec `json:"spec"`
	// +optional
	Status KeyRingStatus `json:"status,omitempty"`
}

// KeyRingList is a list of KeyRings.
//
// +kubebuilder:object:root=true
type KeyRingList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []KeyRing `json:"items"`
}

// KeyRingSpec is what the owner of the keys wants.
type KeyRingSpec struct {
	// NamespaceSelector selects the namespaces whose resources the ring signs. The ring
	// "default" has none, and serves all namespaces that no other ring selects. A
	// namespace that two rings select is signed by none of them.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`

	// Keys are the keys, the oldest first. The target of a rotation is the last key with a
	// private half that is neither a standby nor revoked.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +listType=map
	// +listMapKey=name
	Keys []RingKey `json:"keys"`

	// +optional
	Rotation RotationSpec `json:"rotation,omitempty"`
}

// RingKey is one key. It has a private half (x509 or kms), a public half, or both.
//
// +kubebuilder:validation:XValidation:rule="has(self.x509) || has(self.kms) || has(self.publicKey)",message="a key needs x509, kms or publicKey"
// +kubebuilder:validation:XValidation:rule="!(has(self.x509) && has(self.kms))",message="a key has x509 or kms, not both"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.revoked) || has(self.revoked)",message="a revocation cannot be undone"
type RingKey struct {
	// Name names the key in the ring. It does not change, and is not used again.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// +optional
	X509 *X509Key `json:"x509,omitempty"`
	// +optional
	KMS *KMSKey `json:"kms,omitempty"`

	// PublicKey is the public half in PEM. If the key has a private half too, both must
	// belong together. It keeps the public half known when the private half is deleted.
	// +optional
	// +kubebuilder:validation:MaxLength=8192
	PublicKey string `json:"publicKey,omitempty"`

	// Standby keeps a key from being the target of a rotation: it is published and
	// trusted, and does not sign.
	// +optional
	Standby bool `json:"standby,omitempty"`

	// Revoked marks a key that nobody may trust any more. This cannot be undone.
	// +optional
	Revoked *Revocation `json:"revoked,omitempty"`
}

// X509Key is a private key in a Secret of the controller's namespace.
type X509Key struct {
	// Secret has the files x509.pem, or cosign.key and cosign.password, as the signing
	// secret of Tekton Chains has them.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Secret string `json:"secret"`
}

// KMSKey is a version of a key in a key management service.
//
// +kubebuilder:validation:XValidation:rule="has(self.version) || !(self.ref.startsWith('hashivault://') || self.ref.startsWith('openbao://'))",message="a key of HashiCorp Vault needs a version"
type KMSKey struct {
	// Ref is the reference to the key, such as hashivault://tekton.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Ref string `json:"ref"`
	// Version is the version of a key in HashiCorp Vault. The references of the other
	// services have the version in them.
	// +optional
	// +kubebuilder:validation:Pattern=`^[1-9][0-9]{0,8}$`
	Version string `json:"version,omitempty"`
}

// RevocationReason says why a key is revoked, in the words of RFC 5280, section 5.3.1.
//
// +kubebuilder:validation:Enum=KeyCompromise;Superseded;CessationOfOperation;Unspecified
type RevocationReason string

// The reasons.
const (
	RevokedKeyCompromise        RevocationReason = "KeyCompromise"
	RevokedSuperseded           RevocationReason = "Superseded"
	RevokedCessationOfOperation RevocationReason = "CessationOfOperation"
	RevokedUnspecified          RevocationReason = "Unspecified"
)

// Revocation is the end of all trust in a key.
type Revocation struct {
	Reason RevocationReason `json:"reason"`
	// Since is the time from which signatures of the key count as those of a thief.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// Hold leaves resources with a signature of the key as they are, instead of signing
	// them with another key: a thief may have changed their content.
	// +optional
	Hold bool `json:"hold,omitempty"`
}

// RotationSpec says how the ring changes from one key to the next.
type RotationSpec struct {
	// Paused stops a rotation before its next step.
	// +optional
	Paused bool `json:"paused,omitempty"`
	// QuietPeriod is how long the old key must not have verified a run before it is
	// untrusted.
	// +optional
	QuietPeriod *metav1.Duration `json:"quietPeriod,omitempty"`
	// AcceptUnready are VerificationPolicies that need not trust the new key.
	// +optional
	// +kubebuilder:validation:MaxItems=1000
	AcceptUnready []PolicyReference `json:"acceptUnready,omitempty"`
	// IgnoreBundles lets a key be retired although bundles in the registry may have a
	// signature of the key.
	// +optional
	IgnoreBundles bool `json:"ignoreBundles,omitempty"`
	// RotateAfter is the age of the active key at which the condition RotationDue
	// becomes true. Nothing else happens.
	// +optional
	RotateAfter *metav1.Duration `json:"rotateAfter,omitempty"`
}

// PolicyReference names a VerificationPolicy, or a ClusterVerificationPolicy: that has an
// empty namespace.
type PolicyReference struct {
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`
	// +kubebuilder:validation:MaxLength=253
	Policy string `json:"policy"`
}

// KeyState is the state of a key in its life: pending, active, retiring, retired. Revoked
// can follow each of them, and nothing follows revoked.
type KeyState string

// The states.
const (
	// KeyPending: the key is known and may be published, and has not signed.
	KeyPending KeyState = "pending"
	// KeyActive: the key signs. A ring has at most one such key.
	KeyActive KeyState = "active"
	// KeyRetiring: the key signed before, and is still trusted.
	KeyRetiring KeyState = "retiring"
	// KeyRetired: the key signed before, and is not trusted any more.
	KeyRetired KeyState = "retired"
	// KeyRevoked: the key must not be trusted, whatever a policy says.
	KeyRevoked KeyState = "revoked"
)

// KeyRingStatus is what the controller observed. All of it can be derived from the spec
// and the cluster again.
type KeyRingStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Active is the name of the key that signs.
	// +optional
	Active string `json:"active,omitempty"`
	// Target is the name of the key that is to sign.
	// +optional
	Target string `json:"target,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=name
	Keys []RingKeyStatus `json:"keys,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RingKeyStatus is what the controller observed of one key.
type RingKeyStatus struct {
	Name  string   `json:"name"`
	State KeyState `json:"state"`
	// KeyID is "sha256:" and the lower-case hex SHA-256 of the public key's DER
	// SubjectPublicKeyInfo.
	// +optional
	KeyID string `json:"keyID,omitempty"`
	// PublicKey is the public half in PEM.
	// +optional
	PublicKey string `json:"publicKey,omitempty"`
	// Problem says why the key cannot be used.
	// +optional
	Problem string `json:"problem,omitempty"`
	// ActiveSince is when the key began to sign.
	// +optional
	ActiveSince *metav1.Time `json:"activeSince,omitempty"`
	// ActiveUntil is when the key ended to sign.
	// +optional
	ActiveUntil *metav1.Time `json:"activeUntil,omitempty"`
	// UntrustedSince is when no injected policy trusted the key any more.
	// +optional
	UntrustedSince *metav1.Time `json:"untrustedSince,omitempty"`
	// Signed is the number of resources with a signature of the key.
	// +optional
	Signed int64 `json:"signed,omitempty"`
	// OpenRuns is the number of runs that can still need the key.
	// +optional
	OpenRuns int64 `json:"openRuns,omitempty"`
	// LastVerified is when the key last verified a resource behind a run.
	// +optional
	LastVerified *metav1.Time `json:"lastVerified,omitempty"`
	// LatestVersion is the latest version of the key in HashiCorp Vault or OpenBao. The
	// version in the spec signs, whatever the latest is.
	// +optional
	LatestVersion string `json:"latestVersion,omitempty"`
	// Policies is the number of VerificationPolicies that trust the key. It is not set if
	// that is not known: a policy is asked with a signature of the key. Policies whose own
	// keys cannot be read do not count.
	// +optional
	Policies *int64 `json:"policies,omitempty"`
	// Unready is the number of VerificationPolicies that trust another key of the ring, which
	// signs or signed before, and not this one.
	// +optional
	Unready int64 `json:"unready,omitempty"`
	// UnreadyPolicies are the first 100 of these policies.
	// +optional
	UnreadyPolicies []PolicyReference `json:"unreadyPolicies,omitempty"`
}

// The types of conditions of a KeyRing.
const (
	// KeyRingReady: the ring has an active key that signs.
	KeyRingReady = "Ready"
	// KeyRingRotated: the target is active, and no older key is trusted. The reason names the
	// step that a rotation is at, the message what blocks the step.
	KeyRingRotated = "Rotated"
	// KeyRingTrusted: every VerificationPolicy that trusts another key of the ring, which
	// signs or signed before, trusts the target. Those in acceptUnready need not.
	KeyRingTrusted = "Trusted"
	// KeyRingSeen: before the target became active, Tekton's controller had seen all
	// VerificationPolicies that were there when the target was found trusted.
	KeyRingSeen = "Seen"
	// KeyRingAttestationKeySeparate: no key of the ring, apart from retired and revoked ones,
	// signs the attestations of Tekton Chains, too.
	KeyRingAttestationKeySeparate = "AttestationKeySeparate"
	// KeyRingRotationDue: the active key is older than rotateAfter.
	KeyRingRotationDue = "RotationDue"
)

// The reasons of the condition Trusted.
const (
	// PoliciesReady: the condition is true.
	PoliciesReady = "PoliciesReady"
	// PoliciesBehind: policies do not trust the target. The message names them.
	PoliciesBehind = "PoliciesBehind"
	// PoliciesNotKnown: the policies cannot be read, the target cannot make the signature
	// that policies are asked with, or the public half of another key is not known.
	PoliciesNotKnown = "PoliciesNotKnown"
	// OtherKeyRevoked: the key that signed before the target is revoked. The controller
	// makes no signature with a revoked key, and does not ask policies about this key.
	OtherKeyRevoked = "OtherKeyRevoked"
	// NoTarget: no key is to sign.
	NoTarget = "NoTarget"
)

// The reasons of the condition Seen.
const (
	// CanaryWaits: Tekton has not verified a resource with a signature of the target yet.
	CanaryWaits = "CanaryWaits"
	// CanaryVerified: Tekton verified a resource with a signature of the target.
	CanaryVerified = "CanaryVerified"
	// CanaryNotVerified: Tekton did not. The message says why.
	CanaryNotVerified = "CanaryNotVerified"
	// NotReached: the target is not trusted yet.
	NotReached = "NotReached"
)

// The reasons of the condition AttestationKeySeparate.
const (
	// KeysSeparate: the condition is true.
	KeysSeparate = "KeysSeparate"
	// KeyShared: a key of the ring signs attestations, too. The message names the key.
	KeyShared = "KeyShared"
	// KeysNotKnown: a key of the ring or of the attestations cannot be read.
	KeysNotKnown = "KeysNotKnown"
)

// The ConfigMap in the controller's namespace with the public halves of all keys, which
// every authenticated user may read. It has a file "<digest>.pub" for each key, where
// "sha256:<digest>" is the ID of the key.
const (
	TrustedKeysConfigMap = "trusted-keys"
	// TrustedKeysBundle has all keys that policies should trust, in PEM. Keys of deleted
	// KeyRings are none of them.
	TrustedKeysBundle = "trusted.pem"
	// TrustedKeysIndex is a JSON array of PublishedKey. Keys stay there for ever.
	TrustedKeysIndex = "keyring.json"
)

// InjectKeysAnnotation with the value "true" on a VerificationPolicy makes the controller
// maintain the authorities "keyring-…" of the policy: one for each key of the KeyRing of
// the namespace that should be trusted.
const InjectKeysAnnotation = Group + "/inject-keys"

// PublishedKey is one key in TrustedKeysIndex.
type PublishedKey struct {
	Ring           string       `json:"ring"`
	Name           string       `json:"name"`
	KeyID          string       `json:"keyID"`
	State          KeyState     `json:"state"`
	PublicKey      string       `json:"publicKey"`
	ActiveSince    *metav1.Time `json:"activeSince,omitempty"`
	ActiveUntil    *metav1.Time `json:"activeUntil,omitempty"`
	UntrustedSince *metav1.Time `json:"untrustedSince,omitempty"`
	Revoked        *Revocation  `json:"revoked,omitempty"`
}
