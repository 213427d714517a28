// SPDX-License-Identifier: Apache-2.0

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

	trv1alpha1 "github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/snapshot"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
	"github.com/trusted-resources/chains-extension/test/fixtures"
)

// signer has a signing secret whose key can be rotated.
type signer struct {
	t      *testing.T
	dir    string
	public crypto.PublicKey
	// release is the installed release of Tekton.
	release tekton.Release
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

// sign signs obj with the active key, whatever signature it has.
func (s *signer) sign(obj resource.Object) {
	s.t.Helper()
	setSignature(obj, "")
	d := s.decide(obj, noAuthorities)
	sig, err := d.Key.Sign(s.t.Context(), summarize(s.t, obj).Checksums.In(s.release.Dialect()))
	if err != nil {
		s.t.Fatal(err)
	}
	setSignature(obj, resource.EncodeSignature(sig))
}

func (s *signer) decide(obj resource.Object, authorities snapshot.Authorities) Decision {
	s.t.Helper()
	return Decide(s.t.Context(), s.snapshot(authorities), summarize(s.t, obj))
}

// snapshot selects every resource for signing with x509.
func (s *signer) snapshot(authorities snapshot.Authorities) *snapshot.Snapshot {
	s.t.Helper()
	return &snapshot.Snapshot{
		Config: configure(s.t, allSigners), Keys: s.ring(), Authorities: authorities,
		Namespace: snapshot.Namespace{Active: true},
		Release:   s.release,
	}
}

var allSigners = map[string]string{
	"artifacts.task.signer": "x509", "artifacts.pipeline.signer": "x509", "artifacts.stepaction.signer": "x509",
	"trustedresources.namespaces": "all",
}

func configure(t *testing.T, settings map[string]string) *config.Config {
	t.Helper()
	c, err := config.Parse(settings)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func summarize(t *testing.T, obj resource.Object) *resource.Summary {
	t.Helper()
	summary, err := resource.Summarize(t.Context(), obj)
	if err != nil {
		t.Fatal(err)
	}
	return summary
}

func setSignature(obj metav1.Object, value string) {
	annotations := map[string]string{}
	maps.Copy(annotations, obj.GetAnnotations())
	annotations[trustedresources.SignatureAnnotation] = value
	obj.SetAnnotations(annotations)
}

type authoritiesFunc func(sig, message []byte) (bool, error)

func (f authoritiesFunc) Authorizes(_ context.Context, sig, message []byte) (bool, error) {
	return f(sig, message)
}

var noAuthorities = authoritiesFunc(func(_, _ []byte) (bool, error) { return false, nil })

func task(name string) *v1.Task {
	return &v1.Task{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"},
		Spec:       v1.TaskSpec{Steps: []v1.Step{{Name: "s", Image: "alpine", Script: "echo " + name}}},
	}
}

// One case for each row of the table in docs/reference.md.
func TestDecide_FollowsTheTable(t *testing.T) {
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
		authorities snapshot.Authorities
		want        Reason
		wantErr     error
	}{
		"no signature":                      {func(*v1.Task) {}, noAuthorities, Unsigned, nil},
		"no signature, policies unreadable": {func(*v1.Task) {}, outage, Unsigned, nil},
		"active key":                        {func(o *v1.Task) { us.sign(o) }, noAuthorities, SignedByActiveKey, nil},
		"key of ring, not active":           {func(o *v1.Task) { *o = *superseded }, noAuthorities, KeyRotated, nil},
		"key of ring, not active, and authority": {func(o *v1.Task) { *o = *superseded },
			authoritiesFunc(func(_, _ []byte) (bool, error) { return true, nil }), KeyRotated, nil},
		"spec changed":                      {func(o *v1.Task) { us.sign(o); o.Spec.Steps[0].Script = "evil" }, noAuthorities, ContentChanged, nil},
		"label changed":                     {func(o *v1.Task) { us.sign(o); o.Labels = map[string]string{"a": "b"} }, noAuthorities, ContentChanged, nil},
		"annotation changed":                {func(o *v1.Task) { us.sign(o); o.Annotations["a"] = "b" }, noAuthorities, ContentChanged, nil},
		"signature of another resource":     {func(o *v1.Task) { us.sign(o); o.Name = "copy" }, noAuthorities, ContentChanged, nil},
		"signature of another namespace":    {func(o *v1.Task) { us.sign(o); o.Namespace = "elsewhere" }, noAuthorities, ContentChanged, nil},
		"not base64":                        {func(o *v1.Task) { setSignature(o, "!") }, noAuthorities, ContentChanged, nil},
		"not base64, policies unreadable":   {func(o *v1.Task) { setSignature(o, "!") }, outage, ContentChanged, nil},
		"invalid signature":                 {func(o *v1.Task) { setSignature(o, "Z2FyYmFnZQ==") }, noAuthorities, ContentChanged, nil},
		"key of authority":                  {func(o *v1.Task) { them.sign(o) }, theirs, SignedByAuthority, nil},
		"unknown key":                       {func(o *v1.Task) { them.sign(o) }, noAuthorities, ContentChanged, nil},
		"unknown key, authority unreadable": {func(o *v1.Task) { them.sign(o) }, outage, Undecided, ErrUndecided},
		"last-applied annotation changed": {func(o *v1.Task) {
			us.sign(o)
			o.Annotations["kubectl.kubernetes.io/last-applied-configuration"] = "{}"
		}, noAuthorities, SignedByActiveKey, nil},
	} {
		t.Run(name, func(t *testing.T) {
			obj := task("task")
			tc.prepare(obj)
			d := us.decide(obj, tc.authorities)
			if !errors.Is(d.Err, tc.wantErr) || d.Reason != tc.want {
				t.Errorf("got %q and %v, want %q and %v", d.Reason, d.Err, tc.want, tc.wantErr)
			}
		})
	}
}

// A signature that no known key verifies is lost once it is overwritten, so the
// caller must confirm the decision with policies from the API server.
func TestDecide_OverwritesOnlyUnknownSignatures(t *testing.T) {
	us := newSigner(t)
	signed, changed, unsigned, malformed := task("t"), task("t"), task("t"), task("t")
	us.sign(signed)
	us.sign(changed)
	changed.Spec.Description = "changed"
	setSignature(malformed, "!")
	for name, tc := range map[string]struct {
		obj  *v1.Task
		want bool
	}{"signed": {signed, false}, "unsigned": {unsigned, false}, "malformed": {malformed, false}, "changed": {changed, true}} {
		if d := us.decide(tc.obj, noAuthorities); d.Overwrites != tc.want {
			t.Errorf("%s: got %+v, want Overwrites: %v", name, d, tc.want)
		}
	}
}

func TestDecide_WaitsWithoutAKey(t *testing.T) {
	s := newSigner(t).snapshot(noAuthorities)
	s.Config = configure(t, map[string]string{"artifacts.task.signer": "kms", "trustedresources.namespaces": "all"})
	d := Decide(t.Context(), s, summarize(t, task("t")))
	if d.Action != Wait || d.Reason != NoKey || !errors.Is(d.Err, keys.ErrNoKey) {
		t.Errorf("got %+v, want Wait with ErrNoKey", d)
	}
}

// A signature of a revoked key is never replaced, and never left as a good one:
// not without another key, and not if a policy trusts the key.
func TestDecide_WaitsForASignatureOfARevokedKey(t *testing.T) {
	trusting := authoritiesFunc(func(_, _ []byte) (bool, error) { return true, nil })
	us := newSigner(t)
	signed, changed := task("signed"), task("changed")
	us.sign(signed)
	us.sign(changed)
	changed.Spec.Description = "changed"
	stolen := us.public
	revoke := func(secret fixtures.Secret) {
		t.Helper()
		pem, err := cryptoutils.MarshalPublicKeyToPEM(stolen)
		if err != nil {
			t.Fatal(err)
		}
		secret["revoked-1.pub"] = pem
		if err := secret.Write(us.dir); err != nil {
			t.Fatal(err)
		}
	}
	next, _, err := fixtures.X509Secret()
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []fixtures.Secret{{}, next} { // no other key, and then another key
		revoke(secret)
		for _, authorities := range []snapshot.Authorities{noAuthorities, trusting} {
			d := us.decide(signed, authorities)
			if d.Action != Wait || d.Reason != KeyRevoked || !errors.Is(d.Err, ErrKeyRevoked) || d.Overwrites {
				t.Errorf("with %d files: got %+v, want Wait with ErrKeyRevoked", len(secret), d)
			}
		}
	}
	if d := us.decide(changed, noAuthorities); d.Reason != ContentChanged || d.Action != Sign {
		t.Errorf("no key made the signature over the changed content: got %+v", d)
	}
	setSignature(signed, "")
	if d := us.decide(signed, noAuthorities); d.Reason != Unsigned || d.Action != Sign {
		t.Errorf("the signature was removed: got %+v", d)
	}
}

func TestDecide_WaitsForAReleaseThatIsKnown(t *testing.T) {
	s := newSigner(t).snapshot(noAuthorities)
	for _, tc := range []struct {
		release tekton.Release
		reason  Reason
		err     error
	}{
		{tekton.ReleaseOf(map[string]string{"version": "v1.5.0"}), TektonTooOld, tekton.ErrTooOld},
		{tekton.Unread(errors.New("forbidden")), TektonUnknown, tekton.ErrUnread},
	} {
		s.Release = tc.release
		d := Decide(t.Context(), s, summarize(t, task("t")))
		if d.Action != Wait || d.Reason != tc.reason || !errors.Is(d.Err, tc.err) {
			t.Errorf("got %+v, want Wait with %v", d, tc.err)
		}
	}
}

// Resources that are not selected stay as they are, whatever their signature.
func TestDecide_LeavesUnselectedResources(t *testing.T) {
	now := metav1.Now()
	selected := map[string]string{trv1alpha1.SignLabel: "true"}
	active := func(labels map[string]string) snapshot.Namespace {
		return snapshot.Namespace{Labels: labels, Active: true}
	}
	x509 := map[string]string{"artifacts.task.signer": "x509"}
	for name, tc := range map[string]struct {
		settings  map[string]string
		deleted   *metav1.Time
		namespace snapshot.Namespace
		want      Reason
	}{
		"selected":                         {x509, nil, active(selected), Unsigned},
		"signer none":                      {map[string]string{"artifacts.task.signer": "none"}, nil, active(selected), SignerNone},
		"no signer set":                    {nil, nil, active(selected), SignerNone},
		"signer of another kind":           {map[string]string{"artifacts.pipeline.signer": "x509"}, nil, active(selected), SignerNone},
		"being deleted":                    {x509, &now, active(selected), Deleting},
		"not selected":                     {x509, nil, active(nil), NamespaceNotSelected},
		"namespace unknown or terminating": {x509, nil, snapshot.Namespace{Labels: selected}, Deleting},
		"all namespaces":                   {map[string]string{"artifacts.task.signer": "x509", "trustedresources.namespaces": "all"}, nil, active(nil), Unsigned},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSigner(t).snapshot(noAuthorities)
			s.Config, s.Namespace = configure(t, tc.settings), tc.namespace
			obj := task("t")
			obj.DeletionTimestamp = tc.deleted
			d := Decide(t.Context(), s, summarize(t, obj))
			if d.Reason != tc.want || (d.Action == Sign) != (tc.want == Unsigned) {
				t.Errorf("got %s, %s, want reason %s", d.Action, d.Reason, tc.want)
			}
		})
	}
}

// Tekton's verifier accepts every resource that we sign. After a change of the
// resource, both Tekton and we see that the signature does not verify.
func TestDecide_AgreesWithTektonsVerifier(t *testing.T) {
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
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the test must be repeatable
	for i := range 500 {
		obj := randomObject(random, i)
		us.sign(obj)
		if got := verify(obj); got != trustedresources.VerificationPass {
			t.Fatalf("object %d (%T): Tekton's result is %d, want pass", i, obj, got)
		}
		if d := us.decide(obj, noAuthorities); d.Reason != SignedByActiveKey {
			t.Fatalf("object %d (%T): we would sign it again: %s", i, obj, d.Reason)
		}
		obj.SetLabels(map[string]string{"changed": fmt.Sprint(i)})
		if got := verify(obj); got != trustedresources.VerificationError {
			t.Fatalf("object %d (%T) after a change: Tekton's result is %d, want error", i, obj, got)
		}
		if d := us.decide(obj, noAuthorities); d.Reason != ContentChanged {
			t.Fatalf("object %d (%T) after a change: got %q", i, obj, d.Reason)
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
