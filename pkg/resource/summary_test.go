// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"bytes"
	"errors"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

func TestSummarize_KeepsWhatDecides(t *testing.T) {
	now := metav1.Now()
	meta := metav1.ObjectMeta{
		Namespace: "ns", Name: "build", UID: "uid", ResourceVersion: "7", DeletionTimestamp: &now,
		Annotations: map[string]string{trustedresources.SignatureAnnotation: EncodeSignature([]byte("sig"))},
	}
	for kind, object := range map[Kind]Object{
		Task: &v1.Task{ObjectMeta: meta}, Pipeline: &v1.Pipeline{ObjectMeta: meta}, StepAction: &v1beta1.StepAction{ObjectMeta: meta},
	} {
		s, err := Summarize(t.Context(), object)
		if err != nil {
			t.Fatal(err)
		}
		checksum, err := Checksum(t.Context(), object, tekton.Newest)
		if err != nil {
			t.Fatal(err)
		}
		if s.Kind != kind || s.Key().String() != "ns/build" || s.UID != "uid" || s.ResourceVersion != "7" || !s.Deleting {
			t.Errorf("%s: got %+v", kind, s)
		}
		if !bytes.Equal(s.Checksums.Content(), checksum) || string(s.Signature) != "sig" || s.SignatureError != nil {
			t.Errorf("%s: got checksum %x, signature %q and %v", kind, s.Checksums.Content(), s.Signature, s.SignatureError)
		}
	}
}

func TestSummarize_SaysWhyThereIsNoSignature(t *testing.T) {
	for value, want := range map[string]error{"": ErrUnsigned, "!!!": ErrMalformedSignature} {
		s, err := Summarize(t.Context(), signed(value))
		if err != nil {
			t.Fatal(err)
		}
		if !errors.Is(s.SignatureError, want) || s.Signature != nil {
			t.Errorf("%q: got %q and %v, want %v", value, s.Signature, s.SignatureError, want)
		}
	}
}

// The caches of client-go find the key of an item through its metadata.
func TestSummary_HasTheKeyOfItsResource(t *testing.T) {
	task := &v1.Task{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "build", ResourceVersion: "7"}}
	s, err := Summarize(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	want, err := cache.DeletionHandlingMetaNamespaceKeyFunc(task)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := cache.DeletionHandlingMetaNamespaceKeyFunc(s); err != nil || got != want {
		t.Errorf("got key %q and %v, want %q", got, err, want)
	}
	if got := s.GetObjectMeta().GetResourceVersion(); got != "7" {
		t.Errorf("got resourceVersion %q", got)
	}
}
