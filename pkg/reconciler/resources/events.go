package resources

import (
	"fmt"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	corev1 "k8s.io/api/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/signing"
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
)

// ReasonConfigRefused is the reason of the Event on a ConfigMap that cannot be
// used.
const ReasonConfigRefused = "ConfigRefused"

func signedEvent(about *corev1.ObjectReference, plan signing.Plan) event {
	e := event{about: about, kind: corev1.EventTypeNormal, reason: ReasonSignedAgain}
	switch plan.Reason {
	case signing.KeyRotated:
		e.message = fmt.Sprintf("Signed again with key %s: the signature was made with a key that is not active any more", plan.Key.ID)
	case signing.ContentChanged:
		e.message = fmt.Sprintf("Signed again with key %s: the signature did not verify, the content has changed since", plan.Key.ID)
	case signing.FirstSignature, signing.NotNeeded:
		e.reason, e.message = ReasonSigned, "Signed with key "+plan.Key.ID
	}
	return e
}

func failedEvent(about *corev1.ObjectReference, reason string, err error) event {
	return event{about: about, kind: corev1.EventTypeWarning, reason: reason, message: "Not signed: " + err.Error()}
}

func refusedEvent(cm *corev1.ConfigMap, err error) event {
	return event{about: cm, kind: corev1.EventTypeWarning, reason: ReasonConfigRefused,
		message: fmt.Sprintf("The last good configuration stays in force: %v", err)}
}

// reference names a resource in an Event. Objects from a cache carry no
// TypeMeta of their own.
func reference(kind resource.Kind, obj resource.Object) *corev1.ObjectReference {
	version := v1.SchemeGroupVersion
	if kind == resource.StepAction {
		version = v1beta1.SchemeGroupVersion
	}
	return &corev1.ObjectReference{
		APIVersion: version.String(), Kind: string(kind),
		Namespace: obj.GetNamespace(), Name: obj.GetName(),
		UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion(),
	}
}
