package decision

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	chainssigning "github.com/tektoncd/chains/pkg/chains/signing"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/fixtures"
)

// signer is a keeper whose key can be rotated.
type signer struct {
	t      *testing.T
	dir    string
	public crypto.PublicKey
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	s := &signer{t: t, dir: t.TempDir()}
	s.rotate()
	return s
}

func (s *signer) rotate() {
	s.t.Helper()
	secret, public, err := fixtures.X509Secret()
	if err != nil {
		s.t.Fatal(err)
	}
	if s.public != nil {
		if secret["before.pub"], err = cryptoutils.MarshalPublicKeyToPEM(s.public); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := secret.Write(s.dir); err != nil {
		s.t.Fatal(err)
	}
	s.public = public
}

func (s *signer) ring() *keys.Ring {
	return keys.Load(s.t.Context(), s.dir, keys.Settings{SignerTypes: []string{chainssigning.TypeX509}})
}

// sign signs obj whatever is on it.
func (s *signer) sign(obj resource.Object) {
	s.t.Helper()
	setSignature(obj, "")
	plan := s.plan(obj, noAuthorities)
	sig, err := plan.Sign(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	setSignature(obj, resource.EncodeSignature(sig))
}

func (s *signer) plan(obj resource.Object, authorities Authorities) Plan {
	s.t.Helper()
	plan, err := MakePlan(s.t.Context(), obj, chainssigning.TypeX509, s.ring(), authorities)
	if err != nil {
		s.t.Fatal(err)
	}
	return plan
}

func setSignature(obj metav1.Object, value string) {
	annotations := map[string]string{}
	maps.Copy(annotations, obj.GetAnnotations())
	annotations[trustedresources.SignatureAnnotation] = value
	obj.SetAnnotations(annotations)
}

type authoritiesFunc func(sig, message []byte) (bool, error)

func (f authoritiesFunc) Verify(_ context.Context, _ string, sig, message []byte) (bool, error) {
	return f(sig, message)
}

var noAuthorities = authoritiesFunc(func(_, _ []byte) (bool, error) { return false, nil })

func task(name string) *v1.Task {
	return &v1.Task{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"},
		Spec:       v1.TaskSpec{Steps: []v1.Step{{Name: "s", Image: "alpine", Script: "echo " + name}}},
	}
}

// The table of the design, row by row.
func TestDecisionTable(t *testing.T) {
	errOutage := errors.New("API server not available")
	us, them := newSigner(t), newSigner(t)
	theirKey := them.ring()
	theirs := authoritiesFunc(func(sig, message []byte) (bool, error) { return theirKey.Find(sig, message) != nil, nil })
	outage := authoritiesFunc(func(_, _ []byte) (bool, error) { return false, errOutage })
	superseded := task("superseded")
	us.sign(superseded)
	us.rotate()

	for name, tc := range map[string]struct {
		prepare     func(*v1.Task)
		authorities Authorities
		want        Reason
		wantErr     error
	}{
		"none":                                  {func(*v1.Task) {}, noAuthorities, FirstSignature, nil},
		"none, policies unreadable":             {func(*v1.Task) {}, outage, FirstSignature, nil},
		"verifies with the active key":          {func(o *v1.Task) { us.sign(o) }, noAuthorities, NotNeeded, nil},
		"verifies with another key of our ring": {func(o *v1.Task) { *o = *superseded }, noAuthorities, KeyRotated, nil},
		"… and with an authority too": {func(o *v1.Task) { *o = *superseded },
			authoritiesFunc(func(_, _ []byte) (bool, error) { return true, nil }), KeyRotated, nil},
		"was ours, spec changed":                {func(o *v1.Task) { us.sign(o); o.Spec.Steps[0].Script = "evil" }, noAuthorities, ContentChanged, nil},
		"was ours, label changed":               {func(o *v1.Task) { us.sign(o); o.Labels = map[string]string{"a": "b"} }, noAuthorities, ContentChanged, nil},
		"was ours, annotation changed":          {func(o *v1.Task) { us.sign(o); o.Annotations["a"] = "b" }, noAuthorities, ContentChanged, nil},
		"of another resource":                   {func(o *v1.Task) { us.sign(o); o.Name = "copy" }, noAuthorities, ContentChanged, nil},
		"of another namespace":                  {func(o *v1.Task) { us.sign(o); o.Namespace = "elsewhere" }, noAuthorities, ContentChanged, nil},
		"not base64":                            {func(o *v1.Task) { setSignature(o, "!") }, noAuthorities, ContentChanged, nil},
		"not base64, policies unreadable":       {func(o *v1.Task) { setSignature(o, "!") }, outage, ContentChanged, nil},
		"garbage":                               {func(o *v1.Task) { setSignature(o, "Z2FyYmFnZQ==") }, noAuthorities, ContentChanged, nil},
		"somebody else's, authority":            {func(o *v1.Task) { them.sign(o) }, theirs, NotNeeded, nil},
		"somebody else's, no authority":         {func(o *v1.Task) { them.sign(o) }, noAuthorities, ContentChanged, nil},
		"somebody else's, authority unreadable": {func(o *v1.Task) { them.sign(o) }, outage, "", ErrUndecided},
		"last-applied annotation changed": {func(o *v1.Task) {
			us.sign(o)
			o.Annotations["kubectl.kubernetes.io/last-applied-configuration"] = "{}"
		}, noAuthorities, NotNeeded, nil},
	} {
		t.Run(name, func(t *testing.T) {
			obj := task("task")
			tc.prepare(obj)
			plan, err := MakePlan(t.Context(), obj, chainssigning.TypeX509, us.ring(), tc.authorities)
			if !errors.Is(err, tc.wantErr) || plan.Reason != tc.want {
				t.Errorf("got %q and %v, want %q and %v", plan.Reason, err, tc.want, tc.wantErr)
			}
		})
	}
}

func TestNoKeyNoPlan(t *testing.T) {
	if _, err := MakePlan(t.Context(), task("t"), chainssigning.TypeKMS, newSigner(t).ring(), noAuthorities); !errors.Is(err, keys.ErrNoKey) {
		t.Errorf("got %v, want ErrNoKey", err)
	}
}

// Whatever we sign, Tekton's verifier accepts, and as soon as anything of it
// changes, both it and we see that.
func TestAgreesWithTektonsVerifier(t *testing.T) {
	us := newSigner(t)
	pem, err := cryptoutils.MarshalPublicKeyToPEM(us.public)
	if err != nil {
		t.Fatal(err)
	}
	policy := &v1alpha1.VerificationPolicy{Spec: v1alpha1.VerificationPolicySpec{
		Resources:   []v1alpha1.ResourcePattern{{Pattern: ".*"}},
		Authorities: []v1alpha1.Authority{{Name: "us", Key: &v1alpha1.KeyRef{Data: string(pem)}}},
		Mode:        v1alpha1.ModeEnforce,
	}}
	verify := func(obj resource.Object) trustedresources.VerificationResultType {
		defaulted := obj.DeepCopyObject().(resource.Object)
		defaulted.SetDefaults(t.Context())
		return trustedresources.VerifyResource(t.Context(), defaulted, nil, nil, []*v1alpha1.VerificationPolicy{policy}).VerificationResultType
	}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a repeatable test needs no secrecy
	for i := range 500 {
		obj := randomObject(random, i)
		us.sign(obj)
		if got := verify(obj); got != trustedresources.VerificationPass {
			t.Fatalf("object %d (%T): Tekton's result is %d, want pass", i, obj, got)
		}
		if plan := us.plan(obj, noAuthorities); plan.Reason != NotNeeded {
			t.Fatalf("object %d (%T): we would sign it again: %s", i, obj, plan.Reason)
		}
		obj.SetLabels(map[string]string{"changed": fmt.Sprint(i)})
		if got := verify(obj); got != trustedresources.VerificationError {
			t.Fatalf("object %d (%T) after a change: Tekton's result is %d, want error", i, obj, got)
		}
		if plan := us.plan(obj, noAuthorities); plan.Reason != ContentChanged {
			t.Fatalf("object %d (%T) after a change: got %q", i, obj, plan.Reason)
		}
	}
}

func randomObject(random *rand.Rand, i int) resource.Object {
	meta := metav1.ObjectMeta{Name: fmt.Sprintf("o-%d", i), Namespace: "ns", Labels: map[string]string{}, Annotations: map[string]string{}}
	for range random.IntN(4) {
		meta.Labels[randomText(random)] = randomText(random)
		meta.Annotations[randomText(random)] = randomText(random)
	}
	params := v1.ParamSpecs{{Name: "p"}, {Name: "q", Default: v1.NewStructuredValues("a", "b")}}
	switch random.IntN(3) {
	case 0:
		return &v1.Pipeline{ObjectMeta: meta, Spec: v1.PipelineSpec{Params: params, Tasks: []v1.PipelineTask{
			{Name: "ref", TaskRef: &v1.TaskRef{Name: randomText(random)}},
			{Name: "embedded", TaskSpec: &v1.EmbeddedTask{TaskSpec: v1.TaskSpec{Params: params, Steps: []v1.Step{{Script: randomText(random)}}}}},
		}}}
	case 1:
		return &v1beta1.StepAction{ObjectMeta: meta, Spec: v1beta1.StepActionSpec{Image: randomText(random), Script: randomText(random), Params: params}}
	default:
		return &v1.Task{ObjectMeta: meta, Spec: v1.TaskSpec{Params: params, Description: randomText(random),
			Steps: []v1.Step{{Image: "i", Script: randomText(random)}}, Results: []v1.TaskResult{{Name: "r"}}}}
	}
}

func randomText(random *rand.Rand) string {
	alphabet := []rune("abc <>&\"\\\u2028é漢🙂\n\x00")
	text := make([]rune, random.IntN(12))
	for i := range text {
		text[i] = alphabet[random.IntN(len(alphabet))]
	}
	return string(text)
}
