// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// fixture is a registry, a store in the registry, and keys in files.
type fixture struct {
	t              *testing.T
	signingSecrets string // directory with the signing key
	publicKey      string // file with the public half
	otherPublicKey string // file with another public key
	registry       *harness.Registry
	store          *oci.Store
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, signingSecrets: t.TempDir()}
	f.publicKey, f.otherPublicKey = f.writeKeyPair(f.signingSecrets), f.writeKeyPair(t.TempDir())
	var err error
	if f.registry, err = harness.StartRegistry(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.registry.Stop(); err != nil {
			t.Error(err)
		}
	})
	f.store = &oci.Store{Registry: registry.NewClient(registry.Options{}), Prefix: f.registry.Host() + "/tekton"}
	return f
}

// writeKeyPair writes a new key pair to dir and returns the file with the public key.
func (f *fixture) writeKeyPair(dir string) string {
	f.t.Helper()
	secret, public, err := fixtures.CosignSecret()
	pem, pemErr := cryptoutils.MarshalPublicKeyToPEM(public)
	file := filepath.Join(dir, "public.pem")
	if err := errors.Join(err, pemErr, secret.Write(dir), os.WriteFile(file, pem, 0o600)); err != nil {
		f.t.Fatal(err)
	}
	return file
}

// key loads the signing key.
func (f *fixture) key() (*keys.Key, error) {
	ring, signerType := signingRing(f.t.Context(), f.signingSecrets, "")
	return ring.Active(signerType)
}

// run runs the command and checks the exit code.
func (f *fixture) run(wantCode int, args ...string) (stdout, stderr string) {
	f.t.Helper()
	var out, errs bytes.Buffer
	if got := New(&out, &errs).Run(f.t.Context(), args); got != wantCode {
		f.t.Fatalf("%s: exit code %d, want %d: %s%s", strings.Join(args, " "), got, wantCode, &out, &errs)
	}
	return out.String(), errs.String()
}

func newTask(description string) *v1.Task {
	return &v1.Task{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "build"},
		Spec:       v1.TaskSpec{Description: description, Steps: []v1.Step{{Image: "alpine", Script: "make"}}},
	}
}

func TestBundleVerify_ReportsSignaturesOfBundleSign(t *testing.T) {
	f := newFixture(t)
	signer, err := harness.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	obj := newTask("description")
	if err := signer.Sign(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	reference, err := f.registry.PushBundle(t.Context(), obj)
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := f.run(Findings, "bundle", "verify", "--key", f.publicKey, reference)
	if !strings.Contains(stdout, "no trusted key") || !strings.Contains(stderr, "not everything is signed") {
		t.Errorf("verify before sign: %s%s", stdout, stderr)
	}
	if stdout, _ := f.run(OK, "bundle", "sign", "--signing-secrets", f.signingSecrets, reference); !strings.Contains(stdout, reference) {
		t.Errorf("sign prints %s", stdout)
	}

	var got verification
	stdout, _ = f.run(Findings, "bundle", "verify", "--key", f.publicKey, "-o", "json", reference) // the author of the Task signed the Task with another key
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || len(got.Signers) != 1 || got.Verified || got.Resources[0].Signer != "" {
		t.Errorf("with the key of the bundle only: %v: %s", err, stdout)
	}
	author := filepath.Join(t.TempDir(), "author.pem")
	public, err := signer.PublicKey()
	pem, pemErr := cryptoutils.MarshalPublicKeyToPEM(public)
	if err := errors.Join(err, pemErr, os.WriteFile(author, pem, 0o600)); err != nil {
		t.Fatal(err)
	}
	stdout, _ = f.run(OK, "bundle", "verify", "--key", f.publicKey, "--key", author, "-o", "yaml", reference)
	if err := yaml.UnmarshalStrict([]byte(stdout), &got); err != nil || !got.Verified {
		t.Errorf("with both keys: %v: %s", err, stdout)
	}
	stdout, _ = f.run(OK, "bundle", "verify", "--key", f.publicKey, "--key", author, reference)
	if lines := strings.Split(strings.TrimSpace(stdout), "\n"); len(lines) != 5 || lines[0] != reference || !strings.HasPrefix(lines[4], "Task  prod       build ") {
		t.Errorf("the table is\n%s", stdout)
	}
}

// A valid signature does not say where a bundle belongs.
func TestBundleVerify_RefusesResourcesOfAnotherNamespace(t *testing.T) {
	f := newFixture(t)
	key, err := f.key()
	if err != nil {
		t.Fatal(err)
	}
	prod, err := f.store.Put(t.Context(), newTask("a"), nil, key, tekton.Newest)
	if err != nil {
		t.Fatal(err)
	}
	mixed := f.pushSigned(key, "prod:mixed", newTask("b"), newTaskOf("sandbox", "build"))
	none := f.pushSigned(key, "prod:none", newTaskOf("", "build"))
	verify := func(reference string, flags ...string) []string {
		return append([]string{"bundle", "verify", "--key", f.publicKey, "-o", "json", reference}, flags...)
	}
	for _, args := range [][]string{
		verify(prod.Reference), verify(mixed), verify(none), // without the flag, the namespace does not matter
		verify(prod.Reference, "--namespace", "prod"), verify(prod.Reference, "-n", "prod"),
	} {
		var got verification
		if stdout, _ := f.run(OK, args...); json.Unmarshal([]byte(stdout), &got) != nil || !got.Verified {
			t.Errorf("%v: got %s", args, stdout)
		}
	}
	for _, tc := range []struct{ reference, namespace, names string }{
		{prod.Reference, "sandbox", "Task prod/build"},
		{mixed, "prod", "Task sandbox/build"},
		{none, "prod", "Task /build"},
	} {
		var got verification
		stdout, stderr := f.run(Findings, verify(tc.reference, "--namespace", tc.namespace)...)
		if json.Unmarshal([]byte(stdout), &got) != nil || got.Verified || len(got.Signers) != 1 {
			t.Errorf("%s in %s: got %s", tc.names, tc.namespace, stdout)
		}
		if !strings.Contains(stderr, tc.names) || !strings.Contains(stderr, "namespace "+tc.namespace) || strings.Contains(stderr, "not everything is signed") {
			t.Errorf("%s in %s: got error %s", tc.names, tc.namespace, stderr)
		}
	}
	for _, invalid := range []string{"", "a/b", "Prod"} {
		if stdout, stderr := f.run(Failed, verify(prod.Reference, "--namespace", invalid)...); stdout != "" || !strings.Contains(stderr, "--namespace") {
			t.Errorf("namespace %q: got %s%s", invalid, stdout, stderr)
		}
	}
	_, stderr := f.run(Findings, "bundle", "verify", "--key", f.otherPublicKey, "--namespace", "sandbox", prod.Reference)
	if !strings.Contains(stderr, "not everything is signed") || !strings.Contains(stderr, "Task prod/build") {
		t.Errorf("another key and another namespace: got error %s", stderr)
	}
}

func newTaskOf(namespace, name string) *v1.Task {
	task := newTask("description")
	task.Namespace, task.Name = namespace, name
	return task
}

// pushSigned writes a bundle of resources into a repository below the prefix, signs the
// resources and the bundle, and returns the reference.
func (f *fixture) pushSigned(key *keys.Key, reference string, objects ...resource.Object) string {
	f.t.Helper()
	for _, object := range objects {
		checksum, err := resource.Checksum(f.t.Context(), object, tekton.Newest)
		if err != nil {
			f.t.Fatal(err)
		}
		signature, err := key.Sign(f.t.Context(), checksum)
		if err != nil {
			f.t.Fatal(err)
		}
		object.SetAnnotations(map[string]string{trustedresources.SignatureAnnotation: resource.EncodeSignature(signature)})
		object.SetDefaults(f.t.Context())
	}
	pushed, err := f.registry.PushBundle(f.t.Context(), objects...)
	if err != nil {
		f.t.Fatal(err)
	}
	reference = f.store.Prefix + "/" + reference
	if err := harness.CopyImage(f.t.Context(), pushed, reference); err != nil {
		f.t.Fatal(err)
	}
	f.run(OK, "bundle", "sign", "--signing-secrets", f.signingSecrets, reference)
	return reference
}

// The bundle that a tag refers to may hold more resources than the one that is asked for.
func TestBundleGet_PrintsTheResourceThatWasAskedFor(t *testing.T) {
	f := newFixture(t)
	key, err := f.key()
	if err != nil {
		t.Fatal(err)
	}
	wanted := newTaskOf("prod", "build")
	newest := f.pushSigned(key, "prod:task.build", newTaskOf("prod", "other"), wanted)
	checksum, err := resource.Checksum(t.Context(), wanted, tekton.Newest)
	if err != nil {
		t.Fatal(err)
	}
	if err := harness.CopyImage(t.Context(), newest, f.store.Prefix+"/prod:"+oci.StateTag(checksum)); err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string][]string{"newest state": nil, "one state": {"--checksum", hex.EncodeToString(checksum)}} {
		args := append([]string{"bundle", "get", "task", "build", "-n", "prod", "--repository", f.store.Prefix, "--key", f.publicKey}, flags...)
		stdout, _ := f.run(OK, args...)
		var got v1.Task
		if err := yaml.Unmarshal([]byte(stdout), &got); err != nil || got.Name != "build" {
			t.Errorf("%s: %v: got %s", name, err, stdout)
		}
	}
	f.run(Failed, "bundle", "get", "task", "other", "-n", "prod", "--repository", f.store.Prefix, "--key", f.publicKey)
}

func TestBundleGet_PrintsOnlyTrustedStates(t *testing.T) {
	f := newFixture(t)
	key, err := f.key()
	if err != nil {
		t.Fatal(err)
	}
	for _, description := range []string{"first", "second"} {
		if _, err := f.store.Put(t.Context(), newTask(description), nil, key, tekton.Newest); err != nil {
			t.Fatal(err)
		}
	}
	first, err := resource.Checksum(t.Context(), newTask("first"), tekton.Newest)
	if err != nil {
		t.Fatal(err)
	}
	get := func(key string, flags ...string) []string {
		return append([]string{"bundle", "get", "task", "build", "-n", "prod", "--repository", f.store.Prefix, "--key", key}, flags...)
	}
	for want, flags := range map[string][]string{"second": nil, "first": {"--checksum", "sha256:" + hex.EncodeToString(first)}} {
		stdout, stderr := f.run(OK, get(f.publicKey, flags...)...)
		var got v1.Task
		if err := yaml.Unmarshal([]byte(stdout), &got); err != nil || got.Spec.Description != want || got.Kind != "Task" {
			t.Errorf("want %s: %v: %s", want, err, stdout)
		}
		if !strings.Contains(stderr, key.ID) {
			t.Errorf("the key is missing in %s", stderr)
		}
	}
	if stdout, _ := f.run(Findings, get(f.otherPublicKey)...); stdout != "" {
		t.Errorf("with another key the command prints %s", stdout)
	}
	for wantError, args := range map[string][]string{
		"is not in the registry": get(f.publicKey, "--checksum", strings.Repeat("0", 64)),
		"expected hexadecimal":   get(f.publicKey, "--checksum", "xyz"),
		"expected one of [Task":  {"bundle", "get", "pod", "build", "--repository", f.store.Prefix, "--key", f.publicKey},
		"expected one of yaml":   get(f.publicKey, "-o", "xml"),
		"no such file":           get(filepath.Join(t.TempDir(), "none.pem")),
		`"key" not set`:          {"bundle", "verify", f.store.Prefix + "/prod:x"},
		"--key":                  {"bundle", "verify", "--key", f.signingSecrets + "/cosign.key", f.store.Prefix + "/prod:task.build"},
		"reference":              {"bundle", "verify", "--key", f.publicKey, "no reference"},
		"no usable key":          {"bundle", "sign", "--signing-secrets", t.TempDir(), f.store.Prefix + "/prod:task.build"},
	} {
		if _, stderr := f.run(Failed, args...); !strings.Contains(stderr, wantError) {
			t.Errorf("%v: got %s, want %q", args, stderr, wantError)
		}
	}
}
