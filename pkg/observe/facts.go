// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	corev1 "k8s.io/api/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/audit"
	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// Signed means that the controller wrote a signature.
type Signed struct {
	// Resource is the state that was signed, with the resourceVersion after the
	// write.
	Resource *resource.Summary
	Reason   decision.Reason
	KeyID    string
	// Dialect is that of the checksum that was signed.
	Dialect tekton.Dialect
	// KeyTook is the time that the key needed. Took is the time since this process received
	// the state that was signed.
	KeyTook, Took time.Duration
	Attempt       Attempt
}

func (f Signed) report() report {
	event := Normal(v1alpha1.ReasonSigned, "Signed with key "+f.KeyID)
	if why, again := whyAgain[f.Reason]; again {
		event = Normal(v1alpha1.ReasonSignedAgain, fmt.Sprintf("Signed again with key %s: %s", f.KeyID, why))
	}
	return report{
		about: reference(f.Resource), event: event,
		log: logLine{zapcore.InfoLevel, "Resource signed", append(names(f.Resource),
			"reason", f.Reason, "keyId", f.KeyID, "checksum", fmt.Sprintf("%x", f.Resource.Checksums.In(f.Dialect)))},
		count: counted{signatures, kindAndReason(string(f.Resource.Kind), string(f.Reason))},
		took: []measured{
			{signingDuration, f.KeyTook, ofKind(string(f.Resource.Kind))},
			{signingLatency, f.Took, ofKind(string(f.Resource.Kind))},
		},
		audit: f.record(audit.ResourceSigned, audit.Success, string(f.Reason)),
	}
}

// whyAgain says why a signature was replaced.
var whyAgain = map[decision.Reason]string{
	decision.KeyRotated:     "the signature was made with a key that is not active any more",
	decision.TektonChanged:  "the signature was made for another release of Tekton, which computes another checksum",
	decision.ContentChanged: "the signature did not verify: the content has changed since, or the signing secret no longer has the key",
}

// EarlierStateRestored means that the content of a resource changed to one with a
// valid signature of this installation which the controller did not make for the
// change. Only a holder of the key can make such a signature, so the state existed
// before.
type EarlierStateRestored struct {
	Resource *resource.Summary
	KeyID    string         // of the key that made the signature
	Dialect  tekton.Dialect // of the installed release of Tekton
}

func (f EarlierStateRestored) report() report {
	record := about(audit.ResourceRestoredEarlierState, f.Resource, audit.Unknown, v1alpha1.ReasonEarlierStateRestored)
	record.KeyID = f.KeyID
	return report{
		about: reference(f.Resource),
		event: Warning(v1alpha1.ReasonEarlierStateRestored, fmt.Sprintf("The content changed, and a signature with key %s "+
			"that this controller did not make for the change came with it: "+
			"somebody restored an earlier state, or another holder of the key signed this one", f.KeyID)),
		log: logLine{zapcore.WarnLevel, "Earlier state restored", append(names(f.Resource),
			"keyId", f.KeyID, "checksum", fmt.Sprintf("%x", f.Resource.Checksums.In(f.Dialect)))},
		count: counted{earlierStates, ofKind(string(f.Resource.Kind))},
		audit: record,
	}
}

// NotSigned means that a resource could not be signed.
type NotSigned struct {
	Resource *resource.Summary
	// Reason is a reason of v1alpha1.
	Reason string
	Err    error
	// Logged asks for a log line. The work queue logs the errors that it retries.
	Logged bool
}

func (f NotSigned) report() report {
	made := failure(f.Resource, f.Reason, "Not signed: "+f.Err.Error(), f.Err, f.Logged)
	if !isRecorded(f.Err) {
		made.audit = about(audit.ResourceSignFailed, f.Resource, audit.Failure, f.Reason)
	}
	return made
}

// NotStored means that storing a resource in the registry failed.
type NotStored NotSigned

func (f NotStored) report() report {
	return failure(f.Resource, f.Reason, "Not stored yet, storing will be tried again: "+f.Err.Error(), f.Err, f.Logged)
}

func failure(r *resource.Summary, reason, message string, err error, logged bool) report {
	made := report{
		about: reference(r), event: Warning(reason, message),
		count: counted{signingFailures, kindAndReason(string(r.Kind), reason)},
	}
	if logged {
		made.log = logLine{zapcore.WarnLevel, "Resource not signed", append(append(names(r), "reason", reason, zap.Error(err)), stackOf(err)...)}
	}
	return made
}

// Stored means that the registry has a resource.
type Stored struct {
	Resource *resource.Summary
	// Reference is the repository and digest of the bundle; Tag is its tag.
	Reference, Tag string
	KeyID          string
	// Uploaded reports that the bundle was not in the registry before.
	Uploaded bool
}

func (f Stored) report() report {
	made := report{count: counted{stored, []attribute.KeyValue{
		attribute.String("kind", string(f.Resource.Kind)), attribute.Bool("uploaded", f.Uploaded),
	}}}
	if f.Uploaded { // otherwise reported at upload
		made.about = reference(f.Resource)
		made.event = Normal(v1alpha1.ReasonStored, fmt.Sprintf("Stored as %s, signed with key %s", f.Reference, f.KeyID))
		made.log = logLine{zapcore.InfoLevel, "Resource stored", append(names(f.Resource),
			"reference", f.Reference, "tag", f.Tag, "keyId", f.KeyID)}
		made.audit = about(audit.ResourceStored, f.Resource, audit.Success, v1alpha1.ReasonStored)
		made.audit.Reference, made.audit.KeyID = f.Reference, f.KeyID
	}
	return made
}

// EarlierBundle means that an earlier bundle of a resource got a signature of the active
// key, too; or that it got none, because the key must not vouch for it.
type EarlierBundle struct {
	Resource *resource.Summary
	// Reference is the repository and digest of the bundle.
	Reference, KeyID string
	// Err is why there is no signature; nil if there is one.
	Err error
}

func (f EarlierBundle) report() report {
	about := append(names(f.Resource), "reference", f.Reference, "keyId", f.KeyID)
	if f.Err != nil {
		return report{log: logLine{zapcore.WarnLevel, "Earlier bundle not signed", append(about, zap.Error(f.Err))}}
	}
	return report{log: logLine{zapcore.InfoLevel, "Earlier bundle signed", about}}
}

// ConfigLoaded means that a configuration is in force.
type ConfigLoaded struct{ SignerTypes, Namespaces any }

func (f ConfigLoaded) report() report {
	return report{
		log:    logLine{zapcore.InfoLevel, "Configuration loaded", []any{"signers", f.SignerTypes, "namespaces", f.Namespaces}},
		gauges: map[gauge]bool{configValid: true},
		audit: audit.Record{Type: audit.ConfigLoaded, Outcome: audit.Success, Why: &audit.Why{
			Message: fmt.Sprintf("signers %v, namespaces %v", f.SignerTypes, f.Namespaces),
		}},
	}
}

// ConfigRefused means that a ConfigMap has a setting that cannot be used.
type ConfigRefused struct {
	ConfigMap *corev1.ConfigMap
	Err       error
}

func (f ConfigRefused) report() report {
	cm := f.ConfigMap
	object := &corev1.ObjectReference{
		APIVersion: corev1.SchemeGroupVersion.String(), Kind: "ConfigMap",
		Namespace: cm.Namespace, Name: cm.Name, UID: cm.UID, ResourceVersion: cm.ResourceVersion,
	}
	return report{
		about: object,
		event: Warning(v1alpha1.ReasonConfigRefused, fmt.Sprintf("The last good configuration stays in force: %v", f.Err)),
		log: logLine{zapcore.ErrorLevel, "Configuration refused, the last good one stays in force",
			[]any{"namespace", cm.Namespace, "name", cm.Name, zap.Error(f.Err)}},
		count:  counted{configErrors, nil},
		gauges: map[gauge]bool{configValid: false},
		// Without the error, which quotes settings.
		audit: audit.Record{
			ID:   audit.IdentityOf(audit.ConfigRefused, string(cm.UID), cm.ResourceVersion),
			Type: audit.ConfigRefused, Outcome: audit.Failure, Object: audited(object), Why: &audit.Why{Reason: v1alpha1.ReasonConfigRefused},
		},
	}
}

// ReleaseMissing means that Tekton Pipelines publishes its release in none of the
// namespaces.
type ReleaseMissing struct{ Namespaces []string }

func (f ReleaseMissing) report() report {
	return report{log: logLine{zapcore.WarnLevel, "Found no release of Tekton Pipelines, the controller takes it for a current one",
		[]any{"namespaces", f.Namespaces, "name", tekton.InfoConfigMap}}}
}

// ReleaseChanged means that another release of Tekton Pipelines is installed, which
// computes other checksums.
type ReleaseChanged struct {
	Release       tekton.Release
	Before, After tekton.Dialect
}

func (f ReleaseChanged) report() report {
	return report{log: logLine{zapcore.InfoLevel, "Another release of Tekton Pipelines is installed, resources whose signatures it refuses are signed again",
		[]any{"release", f.Release.String(), "before", f.Before.String(), "after", f.After.String()}}}
}

// ReleaseRefused means that the installed release of Tekton Pipelines cannot
// verify our signatures, or is not known.
type ReleaseRefused struct{ Err error }

func (f ReleaseRefused) report() report {
	return report{log: logLine{zapcore.ErrorLevel, "Nothing is signed", []any{zap.Error(f.Err)}}}
}

// names are the log keys that name a resource.
func names(r *resource.Summary) []any {
	return []any{"kind", r.Kind, "namespace", r.Namespace, "name", r.Name, "uid", r.UID, "resourceVersion", r.ResourceVersion}
}

func reference(r *resource.Summary) *corev1.ObjectReference {
	apiVersion, kind := r.Kind.GroupVersionKind().ToAPIVersionAndKind()
	return &corev1.ObjectReference{
		APIVersion: apiVersion, Kind: kind,
		Namespace: r.Namespace, Name: r.Name, UID: r.UID, ResourceVersion: r.ResourceVersion,
	}
}

// RunNotSigned means that a run could not be signed.
type RunNotSigned struct {
	Run *corev1.ObjectReference
	// Reason is a reason of v1alpha1.
	Reason string
	Err    error
}

func (f RunNotSigned) report() report {
	return report{
		about: f.Run, event: Warning(f.Reason, "Not signed: "+f.Err.Error()),
		log:   logLine{zapcore.WarnLevel, "Run not signed", append(append(runNames(f.Run), "reason", f.Reason, zap.Error(f.Err)), stackOf(f.Err)...)},
		count: counted{runFailures, kindAndReason(f.Run.Kind, f.Reason)},
	}
}

// NotVerified means that the attestation of a run says nothing about the resources
// behind the run, because their verification panicked.
type NotVerified struct {
	Run *corev1.ObjectReference
	Err error
}

func (f NotVerified) report() report {
	return report{
		about: f.Run, event: Warning(v1alpha1.ReasonPanicked, "The attestation says nothing about the resources behind this run: "+f.Err.Error()),
		log:   logLine{zapcore.ErrorLevel, "Run not verified", append(append(runNames(f.Run), zap.Error(f.Err)), stackOf(f.Err)...)},
		count: counted{runFailures, kindAndReason(f.Run.Kind, v1alpha1.ReasonPanicked)},
	}
}

// Verified means that a resource behind a run was verified for an attestation.
type Verified struct {
	Run *corev1.ObjectReference
	// Kind, Namespace and Name are those of the resource.
	Kind            resource.Kind
	Namespace, Name string
	// Checksum is "sha256:" and the checksum in hex; empty if there is no content.
	Checksum string
	// KeyID is the key that made the signature, RequestedBy the user that it covers.
	KeyID, RequestedBy string
	// PolicyNamespace is empty for a ClusterVerificationPolicy.
	PolicyNamespace string
	// Result, Reason, Policy, Mode and Message are those of the verdict.
	Result, Reason, Policy, Mode, Message string
	Passed, Failed                        bool
	// Source is the URI that the resource came from. It can have a password in it.
	Source string
	// Policies has the outcome of each policy that matches; empty if none was asked.
	Policies []PolicyOutcome
}

// PolicyOutcome is the outcome of one policy.
type PolicyOutcome struct {
	Name string
	// Cluster says that this is a ClusterVerificationPolicy.
	Cluster bool
	// Mode, Result and Reason are as in Verified.
	Mode, Result, Reason string
	Failed               bool
}

func (f Verified) report() report {
	made := report{
		count: counted{verifications, append(kindAndReason(string(f.Kind), f.Reason), attribute.String("result", f.Result))},
		audit: f.record(), verified: &f,
	}
	if !f.Passed {
		made.log = logLine{zapcore.InfoLevel, "Resource not verified", append(runNames(f.Run),
			"resourceKind", f.Kind, "resource", f.Name, "result", f.Result, "reason", f.Reason, "policy", f.Policy, "message", f.Message)}
	}
	namespace := namespaceLabel.String(f.Run.Namespace)
	if f.Failed {
		made.bounded = append(made.bounded, counted{verificationFailures, append(kindAndReason(string(f.Kind), f.Reason), attribute.String("mode", f.Mode), namespace)})
	}
	for _, p := range f.Policies {
		if !p.Failed {
			continue
		}
		scope := "namespace"
		if p.Cluster {
			scope = "cluster"
		}
		made.bounded = append(made.bounded, counted{policyViolations, []attribute.KeyValue{
			namespace, policyLabel.String(p.Name), attribute.String("policy_scope", scope), attribute.String("mode", p.Mode),
		}})
	}
	return made
}

// PolicySecretUnusable means that the Secret that a policy refers to cannot be used.
// There is no Event: the namespace of the policy may not know about the Secret.
type PolicySecretUnusable struct {
	Namespace, Name string // of the Secret
	Err             error
}

func (f PolicySecretUnusable) report() report {
	return report{log: logLine{zapcore.WarnLevel, "Secret of a policy not usable",
		[]any{"secretNamespace", f.Namespace, "secret", f.Name, zap.Error(f.Err)}}}
}

// SecretUnusable returns a function that emits PolicySecretUnusable.
func SecretUnusable(emit func(context.Context, Fact)) func(ctx context.Context, namespace, name string, err error) {
	return func(ctx context.Context, namespace, name string, err error) {
		emit(ctx, PolicySecretUnusable{namespace, name, err})
	}
}

// VerificationDiffers means that the verification of the resources behind a run
// gave another result than Tekton's.
type VerificationDiffers struct {
	Run *corev1.ObjectReference
	// Differing has a text for each resource.
	Differing []string
}

func (f VerificationDiffers) report() report {
	differing := strings.Join(f.Differing, "; ")
	return report{
		about: f.Run, event: Warning(v1alpha1.ReasonVerificationDiffers, differing),
		log:   logLine{zapcore.WarnLevel, "Verification differs from Tekton's", append(runNames(f.Run), "differing", differing)},
		count: counted{verificationDifferences, ofKind(f.Run.Kind)},
		audit: ofRun(audit.VerificationDiffers, f.Run, audit.Failure, audit.Why{Reason: v1alpha1.ReasonVerificationDiffers, Message: differing}),
	}
}

func runNames(run *corev1.ObjectReference) []any {
	return []any{"kind", run.Kind, "namespace", run.Namespace, "name", run.Name}
}
