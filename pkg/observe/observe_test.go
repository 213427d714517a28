// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes/fake"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// recorded are the Events of one fact.
type recorded []Event

func (r *recorded) Record(_ context.Context, about *corev1.ObjectReference, event Event) {
	*r = append(*r, Event{event.Type, event.Reason, about.Kind + " " + about.Namespace + "/" + about.Name + ": " + event.Message})
}

func TestEmitter_TurnsFactsIntoEventsAndLogLines(t *testing.T) {
	task := &resource.Summary{Kind: resource.Task, Namespace: "ns", Name: "t", UID: "uid", ResourceVersion: "7", Checksums: resource.Checksums{{0xab}}}
	run := &corev1.ObjectReference{Kind: "TaskRun", Namespace: "ns", Name: "r"}
	settings := &corev1.ObjectReference{Kind: "ConfigMap", Namespace: "ns", Name: "c"}
	failed := errors.New("out of order")
	for name, tc := range map[string]struct {
		fact       Fact
		event, log string // empty: none
	}{
		"signed":     {Signed{Resource: task, Reason: decision.Unsigned, KeyID: "sha256:1"}, "Normal ResourceSigned Task ns/t: Signed with key sha256:1", "Resource signed"},
		"rotated":    {Signed{Resource: task, Reason: decision.KeyRotated}, "Normal ResourceSignedAgain Task ns/t: Signed again with key : the signature was made with a key that is not active any more", "Resource signed"},
		"upgraded":   {Signed{Resource: task, Reason: decision.TektonChanged}, "Normal ResourceSignedAgain Task ns/t: Signed again with key : the signature was made for another release of Tekton, which computes another checksum", "Resource signed"},
		"changed":    {Signed{Resource: task, Reason: decision.ContentChanged}, "Normal ResourceSignedAgain Task ns/t: Signed again with key : the signature did not verify: the content has changed since, or the signing secret no longer has the key", "Resource signed"},
		"not signed": {NotSigned{Resource: task, Reason: v1alpha1.ReasonNoKey, Err: failed, Logged: true}, "Warning NoSigningKey Task ns/t: Not signed: out of order", "Resource not signed"},
		"retried":    {NotSigned{Resource: task, Reason: v1alpha1.ReasonRefused, Err: failed}, "Warning SignatureRefused Task ns/t: Not signed: out of order", ""},
		"not stored": {NotStored{Resource: task, Reason: v1alpha1.ReasonNotStored, Err: failed}, "Warning NotStored Task ns/t: Not stored yet, storing will be tried again: out of order", ""},
		"uploaded":   {Stored{Resource: task, Reference: "r@d", KeyID: "k", Uploaded: true}, "Normal ResourceStored Task ns/t: Stored as r@d, signed with key k", "Resource stored"},
		"found":      {Stored{Resource: task, Reference: "r@d"}, "", ""},
		"refused":    {ConfigRefused{&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c"}}, failed}, "Warning ConfigRefused ConfigMap ns/c: The last good configuration stays in force: out of order", "Configuration refused, the last good one stays in force"},
		"restored": {EarlierStateRestored{Resource: task, KeyID: "sha256:1"}, "Warning EarlierStateRestored Task ns/t: " +
			"The content changed, and a signature with key sha256:1 that this controller did not make for the change came with it: " +
			"somebody restored an earlier state, or another holder of the key signed this one", "Earlier state restored"},
		"other Tekton": {ReleaseChanged{Before: tekton.NullTimestamps}, "", "Another release of Tekton Pipelines is installed, resources whose signatures it refuses are signed again"},
		"old Tekton":   {ReleaseRefused{failed}, "", "Nothing is signed"},
		"run waits":    {RunNotSigned{Run: run, Reason: v1alpha1.ReasonRunNotSigned, Err: failed}, "Warning RunNotSigned TaskRun ns/r: Not signed: out of order", "Run not signed"},
		"no verdict":   {NotVerified{run, failed}, "Warning ControllerPanicked TaskRun ns/r: The attestation says nothing about the resources behind this run: out of order", "Run not verified"},
		"verified":     {Verified{Run: run, Passed: true}, "", ""},
		"gate works": {GateObserved{ConfigMap: settings, Held: true, Guarded: true, Changed: true}, "Normal GateInForce ConfigMap ns/c: " +
			"Gate and guards are in force: in enforced namespaces, no TaskRun starts before its resources are verified",
			"Gate and guards are in force: in enforced namespaces, no TaskRun starts before its resources are verified"},
		"gate fails": {GateObserved{ConfigMap: settings, Held: true, Why: "unknown", Changed: true, Needed: true}, "Warning GateNotInForce ConfigMap ns/c: " +
			"Gate or guards are not in force in enforced namespaces. Apply config/admission, or the webhook: unknown",
			"Gate or guards are not in force in enforced namespaces. Apply config/admission, or the webhook"},
		"gate is not used": {GateObserved{ConfigMap: settings, Why: "unknown", Changed: true}, "", "Gate or guards are not in force, and no namespace is enforced"},
		"gate as before":   {GateObserved{ConfigMap: settings, Held: true, Guarded: true}, "", ""},
		"not verified":     {Verified{Run: run}, "", "Resource not verified"},
		"policy Secret":    {PolicySecretUnusable{"ns", "s", failed}, "", "Secret of a policy not usable"},
		"other verdict":    {VerificationDiffers{Run: run, Differing: []string{"a", "b"}}, "Warning VerificationDiffers TaskRun ns/r: a; b", "Verification differs from Tekton's"},
	} {
		t.Run(name, func(t *testing.T) {
			var events recorded
			emitter, err := NewEmitter(&events)
			if err != nil {
				t.Fatal(err)
			}
			core, logs := observer.New(zap.DebugLevel)
			emitter.Emit(logging.WithLogger(t.Context(), zap.New(core).Sugar()), tc.fact)
			got := ""
			for _, event := range events {
				got += fmt.Sprintf("%s %s %s", event.Type, event.Reason, event.Message)
			}
			if got != tc.event {
				t.Errorf("got Event %q, want %q", got, tc.event)
			}
			got = ""
			for _, line := range logs.All() {
				got += line.Message
			}
			if got != tc.log {
				t.Errorf("got log line %q, want %q", got, tc.log)
			}
		})
	}
}

// Each metric must be in the table that metrics are registered from: an Emit with
// another counter would follow a nil pointer.
func TestMetrics_AreAllRegistered(t *testing.T) {
	m, err := newMetrics()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []counter{signatures, signingFailures, runFailures, configErrors, verifications, verificationDifferences, stored, earlierStates, eventsDropped} {
		if m.counters[name] == nil {
			t.Errorf("%s is not registered", name)
		}
	}
}

// Neither a backlog of signatures nor the warnings of one tenant delay the warning of
// another tenant or the Event for the operator.
func TestEvents_DoNotWaitForABacklogOfOthers(t *testing.T) {
	client := fake.NewClientset()
	events, err := NewEvents(t.Context(), client.CoreV1(), "operator")
	if err != nil {
		t.Fatal(err)
	}
	record := func(namespace, name string, event Event) {
		events.Record(t.Context(), &corev1.ObjectReference{Kind: "Task", Namespace: namespace, Name: name}, event)
	}
	const backlog = 1000 // takes 90 s, or 18 s for warnings
	for i := range backlog {
		record("flood", fmt.Sprintf("t-%d", i), Normal("Signed", "ok"))
		record("flood", fmt.Sprintf("t-%d", i), Warning("Failed", "broken"))
	}
	record("other", "broken", Warning("Failed", "broken"))
	record("other", "signed", Normal("Signed", "ok"))
	record("operator", "config", Warning("Refused", "broken"))
	for _, want := range []string{"other/broken", "other/signed", "operator/config"} {
		namespace, name, _ := strings.Cut(want, "/")
		err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 5*time.Second, true, func(ctx context.Context) (bool, error) {
			list, err := client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				return false, err
			}
			return slices.ContainsFunc(list.Items, func(event corev1.Event) bool { return event.InvolvedObject.Name == name }), nil
		})
		if err != nil {
			t.Errorf("the Event on %s was not posted: %v", want, err)
		}
	}
}
