package resource

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
)

func signed(value string) *v1.Task {
	task := &v1.Task{}
	task.Annotations = map[string]string{trustedresources.SignatureAnnotation: value}
	return task
}

func TestSignature(t *testing.T) {
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

func TestChecksumLeavesTheObjectAlone(t *testing.T) {
	task := &v1.Task{}
	task.Spec.Params = v1.ParamSpecs{{Name: "p"}} // SetDefaults fills in the type
	if _, err := Checksum(context.Background(), task); err != nil {
		t.Fatal(err)
	}
	if task.Spec.Params[0].Type != "" {
		t.Error("the object was changed")
	}
}

// Tekton sets defaults before it verifies, so an object that was stored
// without them has the checksum of the one with them.
func TestChecksumIsThatOfTheDefaultedObject(t *testing.T) {
	plain, explicit := &v1.Task{}, &v1.Task{}
	plain.Spec.Params = v1.ParamSpecs{{Name: "p"}}
	explicit.Spec.Params = v1.ParamSpecs{{Name: "p", Type: v1.ParamTypeString}}
	a, errA := Checksum(context.Background(), plain)
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
