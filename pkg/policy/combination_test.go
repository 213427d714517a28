// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"

	"github.com/sigstore/sigstore/pkg/signature/kms/fake"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// inventory holds the keys and Secrets that the combinations use.
type inventory struct {
	keys    map[string]keyPair
	names   []string // of keys
	kms     keyPair  // of fakekms
	secrets []runtime.Object
}

func newInventory() *inventory {
	w := &inventory{
		keys: map[string]keyPair{
			"p256": newKey(), "p256-other": newKey(), "p384": newECDSA(elliptic.P384()), "rsa": newRSA(), "ed25519": newEd25519(),
		},
		names: []string{"p256", "p256-other", "p384", "rsa", "ed25519"},
		kms:   newKey(),
	}
	for _, name := range w.names {
		w.addSecret(name, map[string][]byte{"cosign.pub": []byte(w.keys[name].pem())})
	}
	w.addSecret("two-entries", map[string][]byte{"a": []byte(w.keys["p256"].pem()), "b": []byte(w.keys["rsa"].pem())})
	w.addSecret("no-entry", nil)
	w.addSecret("empty-value", map[string][]byte{"a": {}})
	w.addSecret("garbage", map[string][]byte{"a": []byte("garbage")})
	server, _ := newServer("silent", newKey())
	server.fail(errors.New("sealed"))
	return w
}

// elsewhere is a namespace without policies. It has the same Secrets.
const elsewhere = "elsewhere"

func (w *inventory) addSecret(name string, data map[string][]byte) {
	for _, ns := range []string{namespace, elsewhere} {
		w.secrets = append(w.secrets, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Data: data})
	}
}

// context returns a context in which the fake KMS holds w.kms.
func (w *inventory) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, fake.KmsCtxKey{}, crypto.PrivateKey(w.kms.Signer))
}

// combination is a resource with the policies that verify it.
type combination struct {
	Signed    string // describes the signature, for the test log
	Object    resource.Object
	RefSource *v1.RefSource
	NoMatch   string
	Policies  []*v1alpha1.VerificationPolicy
}

func (c combination) String() string { return string(must(json.MarshalIndent(c, "", "  "))) }

func (c combination) source() string {
	if c.RefSource == nil {
		return ""
	}
	return c.RefSource.URI
}

func (c combination) signature() string {
	return c.Object.GetAnnotations()[trustedresources.SignatureAnnotation]
}

// generator makes combinations. Most of them are plausible, with few invalid
// details: otherwise nearly all would fail.
type generator struct {
	*rand.Rand
	*inventory
	plausible bool   // the current combination is
	signer    string // the key that signs the current resource
}

func oneOf[T any](g *generator, values ...T) T { return values[g.IntN(len(values))] }

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func (g *generator) combination(i int) combination {
	g.plausible = g.chance(70)
	g.signer = oneOf(g, append([]string{"kms", "p256"}, g.names...)...)
	c := combination{
		NoMatch:   oneOf(g, "ignore", "warn", "fail"),
		RefSource: g.refSource(),
		Object:    g.object(i),
	}
	hash := crypto.SHA256
	if g.chance(20) {
		hash = oneOf(g, crypto.SHA224, crypto.SHA384, crypto.SHA512)
	}
	var value string
	if c.Signed, value = g.sign(c.Object, hash); c.Signed != "not" {
		c.Object.SetAnnotations(map[string]string{trustedresources.SignatureAnnotation: value, "a": "b"})
	}
	for p := range oneOf(g, 0, 1, 1, 1, 2, 2, 3, 4) {
		c.Policies = append(c.Policies, g.policy(i, p, c.source(), hash))
	}
	return c
}

func (g *generator) refSource() *v1.RefSource {
	if g.chance(5) {
		return nil
	}
	return &v1.RefSource{URI: oneOf(g, "",
		"/apis/tekton.dev/v1/namespaces/ns/task/build@8d2c",
		"gcr.io/tekton-releases/catalog/upstream/git-clone",
		"https://git.example/catalog",
		"git+https://git.example/catalog.git",
		" git+https://git.example/catalog.git\t",
		"git+git+https://git.example/catalog",
		" ",
	)}
}

func (g *generator) object(i int) resource.Object {
	meta := metav1.ObjectMeta{Name: fmt.Sprintf("o-%d", i), Namespace: namespace, Annotations: map[string]string{"a": "b"}}
	step := v1.Step{Image: "alpine", Script: fmt.Sprint(g.Uint64())}
	switch g.IntN(4) {
	case 0:
		return &v1.Task{ObjectMeta: meta, Spec: v1.TaskSpec{Params: v1.ParamSpecs{{Name: "p"}}, Steps: []v1.Step{step}}}
	case 1:
		return &v1.Pipeline{ObjectMeta: meta, Spec: v1.PipelineSpec{Tasks: []v1.PipelineTask{
			{Name: "t", TaskRef: &v1.TaskRef{Name: step.Script}}}}}
	case 2:
		return &v1beta1.StepAction{ObjectMeta: meta, Spec: v1beta1.StepActionSpec{Image: "alpine", Script: step.Script}}
	default:
		//nolint:staticcheck // deprecated, but Tekton still verifies it
		return &v1beta1.Task{ObjectMeta: meta, Spec: v1beta1.TaskSpec{Steps: []v1beta1.Step{{Image: "alpine", Script: step.Script}}}}
	}
}

func (g *generator) sign(obj resource.Object, hash crypto.Hash) (how, value string) {
	how = "well"
	if !g.plausible || g.chance(20) {
		how = oneOf(g, "well", "not", "empty", "not base64", "text cut off", "bytes cut off", "line break only", "other content", "by an unknown key", "very long", "with more bytes")
	}
	signer := g.kms
	if g.signer != "kms" {
		signer = g.keys[g.signer]
	}
	content := must(resource.Checksum(context.Background(), obj, tekton.Newest))
	good := signer.sign(content, hash)
	raw := must(base64.StdEncoding.DecodeString(good))
	switch how {
	case "well":
		return fmt.Sprintf("well by %s with %s", g.signer, hash), good
	case "not base64":
		return how, oneOf(g, "!", "_-8=", good+"=", good+" ")
	case "text cut off":
		return how, good[:g.IntN(len(good))]
	case "bytes cut off":
		return how, resource.EncodeSignature(raw[:g.IntN(len(raw))])
	case "line break only":
		return how, "\r\n"
	case "other content":
		return how, signer.sign(message, hash)
	case "by an unknown key":
		return how, newKey().sign(content, hash)
	case "very long":
		return how, strings.Repeat(good, 1+g.IntN(100))
	case "with more bytes":
		return how, resource.EncodeSignature(append(raw, 0))
	default:
		return how, ""
	}
}

func (g *generator) policy(combination, number int, source string, hash crypto.Hash) *v1alpha1.VerificationPolicy {
	name := oneOf(g, "a", "b", "c") + fmt.Sprint(number) // the order of names differs from the order in the list
	p := enforce(name)
	p.UID = types.UID(fmt.Sprintf("%d-%d", combination, number))
	p.Spec.Mode = oneOf(g, v1alpha1.ModeEnforce, v1alpha1.ModeWarn, "", "unknown", "Warn")
	patterns := make([]string, oneOf(g, 1, 1, 1, 2, 3))
	for i := range patterns {
		patterns[i] = g.pattern(source)
	}
	matching(p, patterns...)
	for a := range g.authorityCount() {
		key := g.keyRef()
		if g.plausible && a == 0 {
			key = g.trusted()
			key.HashAlgorithm = g.spelling(hash)
		}
		p.Spec.Authorities = append(p.Spec.Authorities, v1alpha1.Authority{Name: fmt.Sprint(a), Key: key})
	}
	return p
}

func (g *generator) authorityCount() int {
	if g.plausible {
		return oneOf(g, 1, 1, 1, 2)
	}
	return g.IntN(4)
}

func (g *generator) pattern(source string) string {
	address := normalized(source)
	literal := regexp.QuoteMeta(address)
	prefix := regexp.QuoteMeta(address[:len(address)/2])
	if g.plausible && g.chance(80) {
		return oneOf(g, address, literal, prefix+".*", ".*", "^"+literal+"$", "^"+prefix, prefix+"|.*")
	}
	return oneOf(g,
		address, literal, prefix+".*", prefix, "^"+literal+"$", "^"+literal, literal+"$", "^"+prefix, prefix+"$", "^"+prefix+".*", ".*"+literal+"$",
		"^https|catalog$", "^gcr|\\.git$", "^/apis|x$", "https|gcr", "a|.*", ".*|a$",
		"", "^", "$", "^$", "^^", "$$", "^|$", ".*", ".", "other",
		"git+https://git.example/catalog.git", "git\\+https://.*", `\$`, `^.*\$`,
		"(", "[a-", "*", "^(?P<n>", `\`, "a{2,1}", "^)$", ")|(?:.*")
}

// trusted returns a reference to the key that signs.
func (g *generator) trusted() *v1alpha1.KeyRef {
	switch {
	case g.signer == "kms":
		return inKMS(fake.ReferenceScheme + "key")
	case g.chance(15):
		return inForeignSecret(g.signer)
	case g.chance(50):
		return inSecret(g.signer)
	default:
		return inline(g.keys[g.signer])
	}
}

func (g *generator) keyRef() *v1alpha1.KeyRef {
	key := oneOf(g, g.trusted, g.trusted, g.trusted, g.otherKey, g.otherKey, g.badKey)()
	key.HashAlgorithm = oneOf[v1alpha1.HashAlgorithm](g, "", "", "sha256", "SHA256", "Sha224", "sha384", "SHA512")
	if g.chance(5) {
		key.HashAlgorithm = oneOf[v1alpha1.HashAlgorithm](g, "md5", "sha-256", " ")
	}
	return key
}

func (g *generator) otherKey() *v1alpha1.KeyRef {
	name := oneOf(g, g.names...)
	return oneOf(g, inline(g.keys[name]), inSecret(name), inForeignSecret(name), inKMS(fake.ReferenceScheme+"key"), inKMS(testScheme+"silent"))
}

func (g *generator) badKey() *v1alpha1.KeyRef {
	both := inSecret("missing")
	both.Data = g.keys["p256"].pem()
	return oneOf(g, &v1alpha1.KeyRef{}, both,
		&v1alpha1.KeyRef{Data: "garbage"},
		&v1alpha1.KeyRef{Data: "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"},
		inSecret("missing"), inSecret("two-entries"), inSecret("no-entry"), inSecret("empty-value"), inSecret("garbage"), inSecret(""), inSecret("a/b"),
		inForeignSecret("missing"), inForeignSecret("two-entries"), inForeignSecret("garbage"),
		inKMS("nosuchkms://key"), inKMS("no-scheme"), inKMS(testScheme+"missing"))
}

func inForeignSecret(name string) *v1alpha1.KeyRef {
	key := inSecret(name)
	key.SecretRef.Namespace = elsewhere
	return key
}

// spelling returns a name that policies accept for the hash.
func (g *generator) spelling(hash crypto.Hash) v1alpha1.HashAlgorithm {
	name := strings.ReplaceAll(hash.String(), "-", "") // SHA256
	if hash == crypto.SHA256 && g.chance(50) {
		return ""
	}
	return v1alpha1.HashAlgorithm(oneOf(g, name, strings.ToLower(name)))
}
