// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

func signed(value string) *v1.Task {
	task := &v1.Task{}
	task.Annotations = map[string]string{trustedresources.SignatureAnnotation: value}
	return task
}

func TestSignature_DecodesAnnotation(t *testing.T) {
	got, err := Signature(signed(EncodeSignature([]byte("sig"))))
	if err != nil || string(got) != "sig" {
		t.Errorf("got %q and %v", got, err)
	}
	for name, tc := range map[string]struct {
		task *v1.Task
		want error
	}{
		"no annotations": {&v1.Task{}, ErrUnsigned},
		"empty":          {signed(""), ErrUnsigned},
		"not base64":     {signed("!!!"), ErrMalformedSignature},
		"url base64":     {signed("_-8="), ErrMalformedSignature},
		"too long":       {signed(strings.Repeat("A", MaxSignatureLength+4)), ErrMalformedSignature},
	} {
		if _, err := Signature(tc.task); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}

func TestChecksum_DoesNotChangeObject(t *testing.T) {
	task := &v1.Task{}
	task.Spec.Params = v1.ParamSpecs{{Name: "p"}} // SetDefaults fills in the type
	if _, err := Checksum(context.Background(), task, tekton.Newest); err != nil {
		t.Fatal(err)
	}
	if task.Spec.Params[0].Type != "" {
		t.Error("the object was changed")
	}
}

// Tekton sets defaults before it verifies, so the checksum of an object does not
// depend on whether defaults were set before the object was stored.
func TestChecksum_SetsDefaults(t *testing.T) {
	plain, explicit := &v1.Task{}, &v1.Task{}
	plain.Spec.Params = v1.ParamSpecs{{Name: "p"}}
	explicit.Spec.Params = v1.ParamSpecs{{Name: "p", Type: v1.ParamTypeString}}
	a, errA := Checksum(context.Background(), plain, tekton.Newest)
	b, errB := explicit.Checksum()
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	if string(a) != string(b) {
		t.Errorf("got %x, want %x", a, b)
	}
}

func FuzzSignature(f *testing.F) {
	f.Add("c2ln")
	f.Add("=")
	f.Add("c2\nln")
	f.Fuzz(func(t *testing.T, value string) {
		got, err := Signature(signed(value))
		upstream, upstreamErr := base64.StdEncoding.DecodeString(value)
		switch {
		case err == nil && (upstreamErr != nil || string(got) != string(upstream)):
			t.Fatalf("%q: got %q where Tekton gets %q and %v", value, got, upstream, upstreamErr)
		case err != nil && !errors.Is(err, ErrUnsigned) && !errors.Is(err, ErrMalformedSignature):
			t.Fatalf("%q: %v is neither of the two errors", value, err)
		}
	})
}

// Every field of the metadata that differs between clusters.
func populated(task *v1.Task) *v1.Task {
	now := metav1.Now()
	task = task.DeepCopy()
	task.TypeMeta = metav1.TypeMeta{}
	task.UID, task.ResourceVersion, task.Generation = "uid", "7", 3
	task.SetSelfLink("/x")
	task.CreationTimestamp, task.DeletionTimestamp, task.DeletionGracePeriodSeconds = now, &now, new(int64)
	task.Finalizers = []string{"chains.tekton.dev"}
	task.OwnerReferences = []metav1.OwnerReference{{Name: "owner"}}
	task.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	if task.Annotations == nil {
		task.Annotations = map[string]string{}
	}
	task.Annotations["kubectl.kubernetes.io/last-applied-configuration"] = "{}"
	task.Annotations["kubectl-client-side-apply"] = "x"
	task.Annotations[trustedresources.SignatureAnnotation] = "b2xk"
	return task
}

func TestSigned_KeepsOnlyChecksummedFields(t *testing.T) {
	plain := &v1.Task{ObjectMeta: metav1.ObjectMeta{
		Name: "build", Namespace: "prod", Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"},
	}}
	plain.Spec.Params = v1.ParamSpecs{{Name: "p"}}
	from, err := json.Marshal(populated(plain))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Signed(t.Context(), populated(plain), []byte("sig"))
	if err != nil {
		t.Fatal(err)
	}
	want := &v1.Task{
		TypeMeta: metav1.TypeMeta{APIVersion: "tekton.dev/v1", Kind: "Task"},
		ObjectMeta: metav1.ObjectMeta{
			Name: "build", Namespace: "prod", Labels: map[string]string{"a": "b"},
			Annotations: map[string]string{"c": "d", trustedresources.SignatureAnnotation: "c2ln"},
		},
	}
	want.Spec.Params = v1.ParamSpecs{{Name: "p", Type: v1.ParamTypeString}}
	if !reflect.DeepEqual(got, Object(want)) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	before, after := must(Checksum(t.Context(), populated(plain), tekton.Newest)), must(got.Checksum())
	if string(before) != string(after) {
		t.Error("the checksum is another one")
	}
	object := populated(plain)
	if _, err := Signed(t.Context(), object, []byte("sig")); err != nil {
		t.Fatal(err)
	}
	object.DeletionTimestamp, object.CreationTimestamp = nil, metav1.Time{}
	var original v1.Task
	if err := json.Unmarshal(from, &original); err != nil {
		t.Fatal(err)
	}
	original.DeletionTimestamp, original.CreationTimestamp = nil, metav1.Time{}
	if !reflect.DeepEqual(object, &original) {
		t.Errorf("the object was changed to %+v", object)
	}
}

func TestSigned_SetsKind(t *testing.T) {
	for want, object := range map[string]Object{
		"tekton.dev/v1, Kind=Task":            &v1.Task{},
		"tekton.dev/v1, Kind=Pipeline":        &v1.Pipeline{},
		"tekton.dev/v1beta1, Kind=StepAction": &v1beta1.StepAction{},
	} {
		got, err := Signed(t.Context(), object, []byte("sig"))
		if err != nil || got.GetObjectKind().GroupVersionKind().String() != want {
			t.Errorf("%T: got %v and %v", object, got, err)
		}
	}
}

// Tekton's checksum contains the API version, so v1beta1 objects have other checksums
// than the served v1 objects.
func TestSigned_RejectsOtherVersions(t *testing.T) {
	for _, object := range []Object{&v1beta1.Task{}, &v1beta1.Pipeline{}} { //nolint:staticcheck // Tekton still accepts these versions
		if got, err := Signed(t.Context(), object, []byte("sig")); err == nil {
			t.Errorf("%T: got %+v", object, got)
		}
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
