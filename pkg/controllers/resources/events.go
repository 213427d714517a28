package resources

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Reasons of the Events on resources.
const (
	// ReasonSigned: it had no signature and has one now.
	ReasonSigned = "ResourceSigned"
	// ReasonSignedAgain: its signature was replaced; the message says why.
	ReasonSignedAgain = "ResourceSignedAgain"
	// ReasonNoKey: there is no usable key. It is signed as soon as there is one.
	ReasonNoKey = "NoSigningKey"
	// ReasonTektonTooOld: the installed Tekton would refuse the signature.
	ReasonTektonTooOld = "TektonTooOld"
	// ReasonUndecided: the signature on it may be somebody else's.
	ReasonUndecided = "SignatureUndecided"
	// ReasonSignerFailed: the key or KMS failed. It is tried again.
	ReasonSignerFailed = "SignerFailed"
	// ReasonDisputed: something changes the resource whenever it is signed.
	ReasonDisputed = "SignatureDisputed"
	// ReasonRefused: the API server or an admission webhook refused the write.
	ReasonRefused = "SignatureRefused"
	// ReasonStored: the registry has it, read back.
	ReasonStored = "ResourceStored"
	// ReasonNotStored: the registry does not have it yet. It is tried again.
	ReasonNotStored = "NotStored"
)

func signedEvent(plan decision.Plan) observe.Event {
	switch plan.Reason {
	case decision.KeyRotated:
		return observe.Normal(ReasonSignedAgain, fmt.Sprintf("Signed again with key %s: the signature was made with a key that is not active any more", plan.Key.ID))
	case decision.ContentChanged:
		return observe.Normal(ReasonSignedAgain, fmt.Sprintf("Signed again with key %s: the signature did not verify, the content has changed since", plan.Key.ID))
	case decision.FirstSignature, decision.NotNeeded:
	}
	return observe.Normal(ReasonSigned, "Signed with key "+plan.Key.ID)
}

func failedEvent(reason string, err error) observe.Event {
	if reason == ReasonNotStored {
		return observe.Warning(reason, "Not stored yet, it will be tried again: "+err.Error())
	}
	return observe.Warning(reason, "Not signed: "+err.Error())
}

// reference names a resource in an Event. Objects from a cache carry no
// TypeMeta of their own.
func reference(kind resource.Kind, obj resource.Object) *corev1.ObjectReference {
	apiVersion, name := kind.GroupVersionKind().ToAPIVersionAndKind()
	return &corev1.ObjectReference{
		APIVersion: apiVersion, Kind: name,
		Namespace: obj.GetNamespace(), Name: obj.GetName(),
		UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion(),
	}
}
