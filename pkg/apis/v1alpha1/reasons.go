// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Reasons of the Events on Tasks, Pipelines and StepActions. The reasons from
// ReasonNoKey on are also values of the label "reason" of the metric
// trustedresources_signing_failures_total.
const (
	// ReasonSigned: the resource had no signature and now has one.
	ReasonSigned = "ResourceSigned"
	// ReasonSignedAgain: the controller replaced the signature; the message says
	// why.
	ReasonSignedAgain = "ResourceSignedAgain"
	// ReasonStored: the registry has the resource; the controller read it back.
	ReasonStored = "ResourceStored"

	// ReasonEarlierStateRestored: the content changed, and a valid signature of this
	// installation came with it: somebody restored an earlier state.
	ReasonEarlierStateRestored = "EarlierStateRestored"

	// ReasonNoKey: there is no usable key. The controller signs the resource as
	// soon as there is one.
	ReasonNoKey = "NoSigningKey"
	// ReasonTektonTooOld: the installed release of Tekton Pipelines would refuse
	// the signature.
	ReasonTektonTooOld = "TektonTooOld"
	// ReasonTektonUnknown: the installed release of Tekton Pipelines cannot be read, and
	// another release would refuse the signature.
	ReasonTektonUnknown = "TektonUnknown"
	// ReasonUndecided: the signature may have been made with the key of an
	// authority that cannot be read now. The controller keeps the signature and
	// tries again.
	ReasonUndecided = "SignatureUndecided"
	// ReasonOtherTekton: an authority of a VerificationPolicy made the signature for
	// another release of Tekton. The signature is kept. The installed release refuses it.
	ReasonOtherTekton = "SignedForOtherTekton"
	// ReasonKeyRevoked: a revoked key made the signature. The controller neither
	// trusts nor replaces the signature.
	ReasonKeyRevoked = "KeyRevoked"
	// ReasonNotAuthorized: trustedresources.requester is required, and nobody with the
	// right to sign made or approved the content. The message names who made it.
	ReasonNotAuthorized = "NotAuthorized"
	// ReasonRequesterUnsafe: trustedresources.requester is required, and the service
	// account of the controller has the right to sign, or it is not known whether.
	ReasonRequesterUnsafe = "RequesterUnsafe"
	// ReasonSignerFailed: the key or the KMS did not make a signature. The
	// controller tries again.
	ReasonSignerFailed = "SignerFailed"
	// ReasonDisputed: another writer changes the resource each time that the
	// controller signs it.
	ReasonDisputed = "SignatureDisputed"
	// ReasonRefused: the API server or an admission webhook refused the write.
	ReasonRefused = "SignatureRefused"
	// ReasonNotStored: storing in the registry failed. The controller tries again.
	ReasonNotStored = "NotStored"
	// ReasonAuditFailed: the audit log cannot be written, and
	// trustedresources.audit.on-failure is block. The controller tries again.
	ReasonAuditFailed = "AuditLogFailed"
	// ReasonPanicked: the code of the controller panicked while it worked on this
	// object. The controller tries again. Also a reason of Events on runs.
	ReasonPanicked = "ControllerPanicked"
)

// Reasons of the Events on other objects.
const (
	// ReasonConfigRefused: a ConfigMap has a setting that cannot be used. The last
	// good configuration stays in force.
	ReasonConfigRefused = "ConfigRefused"
	// ReasonRightsMissing: the service account of the controller lacks rights, so no
	// resource is signed. The Event is on the ConfigMap chains-config.
	ReasonRightsMissing = "RightsMissing"
	// ReasonRightsGranted: no right is missing any more.
	ReasonRightsGranted = "RightsGranted"
	// ReasonGateInForce: the API server holds and guards the Pods of TaskRuns in
	// enforced namespaces. The Event is on the ConfigMap chains-config.
	ReasonGateInForce = "GateInForce"
	// ReasonGateNotInForce: the API server does not, or whether it does is not known.
	ReasonGateNotInForce = "GateNotInForce"
	// ReasonReportsNotWritten: the Reports cannot be written; the message says why and what
	// to do. The Event is on the ConfigMap chains-config.
	ReasonReportsNotWritten = "ReportsNotWritten"
	// ReasonReportsWritten: Reports are written again.
	ReasonReportsWritten = "ReportsWritten"
	// ReasonRunNotSigned: a run has no attestation yet, because there is no usable
	// key. The controller tries again, unless no key is set at all.
	ReasonRunNotSigned = "RunNotSigned"
	// ReasonVerificationDiffers: the verification of the resources behind a run
	// gave another result than Tekton's.
	ReasonVerificationDiffers = "VerificationDiffers"
	// ReasonRunRefused: a TaskRun was cancelled before it started, because a resource
	// behind it is not verified.
	ReasonRunRefused = "RunRefused"
	// ReasonRunHeld: the Pod of a TaskRun waits, because something cannot be read now.
	ReasonRunHeld = "RunHeld"
	// ReasonReleasedUnverified: a TaskRun started although a resource behind it is not
	// verified. The message says why.
	ReasonReleasedUnverified = "RunReleasedUnverified"
)

// Reasons of the Events on ClusterVerificationPolicies.
const (
	// ReasonPolicyInForce: the policy decides about runs from now on.
	ReasonPolicyInForce = "PolicyInForce"
	// ReasonPolicyNotInForce: the policy does not, or not everywhere; the message says why.
	ReasonPolicyNotInForce = "PolicyNotInForce"
	// ReasonPolicyConflicts: the policy conflicts with others in some namespaces.
	ReasonPolicyConflicts = "PolicyConflicts"
	// ReasonPolicyConflictsEnded: the policy conflicts with no other policy any more.
	ReasonPolicyConflictsEnded = "PolicyConflictsEnded"
)

// Reasons of the Events on KeyRings, besides ReasonKeyRevoked.
const (
	// ReasonKeyPending: the controller knows a new key.
	ReasonKeyPending = "KeyPending"
	// ReasonKeyActive: the key signs from now on.
	ReasonKeyActive = "KeyActive"
	// ReasonKeyRetiring: the key signs no more, and is still trusted.
	ReasonKeyRetiring = "KeyRetiring"
	// ReasonKeyRetired: nothing needs the key any more.
	ReasonKeyRetired = "KeyRetired"
	// ReasonKeyUntrusted: no policy that the controller maintains trusts the key any more.
	ReasonKeyUntrusted = "KeyUntrusted"
	// ReasonRotationWaits: a key cannot become active yet; the message says why.
	ReasonRotationWaits = "RotationWaits"
	// ReasonPolicyBehindRing: policies trust an older key and not the active one.
	ReasonPolicyBehindRing = "PolicyBehindRing"
	// ReasonKeyVersionAvailable: the KMS has a newer version of a key than the KeyRing.
	ReasonKeyVersionAvailable = "KeyVersionAvailable"
)
