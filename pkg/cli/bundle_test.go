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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// user has a key pair, a public key of somebody else, and a registry.
type user struct {
	*testing.T
	secrets, key, other string
	registry            *harness.Registry
	store               *oci.Store
}

func newUser(t *testing.T) *user {
	t.Helper()
	u := &user{T: t, secrets: t.TempDir()}
	u.key, u.other = u.keyPair(u.secrets), u.keyPair(t.TempDir())
	var err error
	if u.registry, err = harness.StartRegistry(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.registry.Stop(); err != nil {
			t.Error(err)
		}
	})
	u.store = &oci.Store{Registry: registry.NewClient(registry.Options{}), Prefix: u.registry.Host() + "/tekton"}
	return u
}

// keyPair writes a key pair into dir and returns the file with the public key.
func (u *user) keyPair(dir string) string {
	u.Helper()
	secret, public, err := fixtures.CosignSecret()
	pem, pemErr := cryptoutils.MarshalPublicKeyToPEM(public)
	file := filepath.Join(dir, "public.pem")
	if err := errors.Join(err, pemErr, secret.Write(dir), os.WriteFile(file, pem, 0o600)); err != nil {
		u.Fatal(err)
	}
	return file
}

// runs runs the command and wants this exit code.
func (u *user) runs(code int, args ...string) (stdout, stderr string) {
	u.Helper()
	var out, errs bytes.Buffer
	if got := New(&out, &errs).Run(u.Context(), args); got != code {
		u.Fatalf("%s: exit code %d, want %d: %s%s", strings.Join(args, " "), got, code, &out, &errs)
	}
	return out.String(), errs.String()
}

func build(description string) *v1.Task {
	return &v1.Task{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "build"},
		Spec:       v1.TaskSpec{Description: description, Steps: []v1.Step{{Image: "alpine", Script: "make"}}},
	}
}

// What one user signs, the other verifies.
func TestSignAndVerify(t *testing.T) {
	u := newUser(t)
	signer, err := harness.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	obj := build("theirs")
	if err := signer.Sign(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	reference, err := u.registry.PushBundle(t.Context(), obj)
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := u.runs(Findings, "bundle", "verify", "--key", u.key, reference)
	if !strings.Contains(stdout, "no trusted key") || !strings.Contains(stderr, "not everything is signed") {
		t.Errorf("before it is signed: %s%s", stdout, stderr)
	}
	if stdout, _ := u.runs(OK, "bundle", "sign", "--signing-secrets", u.secrets, reference); !strings.Contains(stdout, reference) {
		t.Errorf("sign says %s", stdout)
	}

	var got verified
	stdout, _ = u.runs(Findings, "bundle", "verify", "--key", u.key, "-o", "json", reference) // the Task is signed by its author
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || len(got.Signers) != 1 || got.Verified || got.Resources[0].Signer != "" {
		t.Errorf("with the key of the bundle alone: %v: %s", err, stdout)
	}
	author := filepath.Join(t.TempDir(), "author.pem")
	public, err := signer.PublicKey()
	pem, pemErr := cryptoutils.MarshalPublicKeyToPEM(public)
	if err := errors.Join(err, pemErr, os.WriteFile(author, pem, 0o600)); err != nil {
		t.Fatal(err)
	}
	stdout, _ = u.runs(OK, "bundle", "verify", "--key", u.key, "--key", author, "-o", "yaml", reference)
	if err := yaml.UnmarshalStrict([]byte(stdout), &got); err != nil || !got.Verified {
		t.Errorf("with both keys: %v: %s", err, stdout)
	}
	stdout, _ = u.runs(OK, "bundle", "verify", "--key", u.key, "--key", author, reference)
	if lines := strings.Split(strings.TrimSpace(stdout), "\n"); len(lines) != 5 || lines[0] != reference || !strings.HasPrefix(lines[4], "Task  prod       build ") {
		t.Errorf("the table is\n%s", stdout)
	}
}

// What the controller stored comes back, each state of it, and only with the key.
func TestGet(t *testing.T) {
	u := newUser(t)
	key, err := activeKey(t.Context(), u.secrets, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, description := range []string{"first", "second"} {
		if _, err := u.store.Put(t.Context(), build(description), nil, key); err != nil {
			t.Fatal(err)
		}
	}
	first, err := resource.Checksum(t.Context(), build("first"))
	if err != nil {
		t.Fatal(err)
	}
	get := func(key string, more ...string) []string {
		return append([]string{"bundle", "get", "task", "build", "-n", "prod", "--repository", u.store.Prefix, "--key", key}, more...)
	}
	for want, more := range map[string][]string{"second": nil, "first": {"--checksum", "sha256:" + hex.EncodeToString(first)}} {
		stdout, stderr := u.runs(OK, get(u.key, more...)...)
		var got v1.Task
		if err := yaml.Unmarshal([]byte(stdout), &got); err != nil || got.Spec.Description != want || got.Kind != "Task" {
			t.Errorf("want %s: %v: %s", want, err, stdout)
		}
		if !strings.Contains(stderr, key.ID) {
			t.Errorf("the key is not named: %s", stderr)
		}
	}
	if stdout, _ := u.runs(Findings, get(u.other)...); stdout != "" {
		t.Errorf("with another key it prints %s", stdout)
	}
	for name, args := range map[string][]string{
		"is not in the registry": get(u.key, "--checksum", strings.Repeat("0", 64)),
		"expected hexadecimal":   get(u.key, "--checksum", "xyz"),
		"expected one of [Task":  {"bundle", "get", "pod", "build", "--repository", u.store.Prefix, "--key", u.key},
		"expected one of yaml":   get(u.key, "-o", "xml"),
		"no such file":           get(filepath.Join(t.TempDir(), "none.pem")),
		`"key" not set`:          {"bundle", "verify", u.store.Prefix + "/prod:x"},
		"--key":                  {"bundle", "verify", "--key", u.secrets + "/cosign.key", u.store.Prefix + "/prod:task.build"},
		"reference":              {"bundle", "verify", "--key", u.key, "no reference"},
		"no usable key":          {"bundle", "sign", "--signing-secrets", t.TempDir(), u.store.Prefix + "/prod:task.build"},
	} {
		if _, stderr := u.runs(Failed, args...); !strings.Contains(stderr, name) {
			t.Errorf("%v: got %s, want %q", args, stderr, name)
		}
	}
}
