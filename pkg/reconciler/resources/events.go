package resources

import (
	"fmt"
	"strings"

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

// event is what is said about an object; kind is corev1's Normal or Warning.
type event struct{ kind, reason, message string }

func signedEvent(plan signing.Plan) event {
	e := event{kind: corev1.EventTypeNormal, reason: ReasonSignedAgain}
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

func failedEvent(reason string, err error) event {
	return event{corev1.EventTypeWarning, reason, limited("Not signed: " + err.Error())}
}

func configRefusedEvent(err error) event {
	return event{corev1.EventTypeWarning, ReasonConfigRefused, limited(fmt.Sprintf("The last good configuration stays in force: %v", err))}
}

// maxMessage is the API server's limit for an Event's message, in bytes.
const maxMessage = 1024

func limited(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	const cut = "…"
	return strings.ToValidUTF8(message[:maxMessage-len(cut)], "") + cut
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

func configMapReference(cm *corev1.ConfigMap) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: corev1.SchemeGroupVersion.String(), Kind: "ConfigMap",
		Namespace: cm.Namespace, Name: cm.Name, UID: cm.UID, ResourceVersion: cm.ResourceVersion,
	}
}
