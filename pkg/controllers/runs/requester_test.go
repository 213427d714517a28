// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"testing"

	chainssigning "github.com/tektoncd/chains/pkg/chains/signing"

	"github.com/trusted-resources/chains-extension/pkg/attestation"
	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/verification"
	"github.com/trusted-resources/chains-extension/test/fixtures"
)

// A requester is named only if a signature of this installation, which passed, covers the
// name, and the setting is on.
func TestReporter_NamesTheRequesterOnlyIfItIsKnown(t *testing.T) {
	ours, theirs := x509Ring(t), x509Ring(t)
	checksum := []byte("checksum of the content")
	signedBy := func(ring *keys.Ring) (*dependencies.Content, string) {
		key, err := ring.Active(chainssigning.TypeX509)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := key.Sign(t.Context(), checksum)
		if err != nil {
			t.Fatal(err)
		}
		return &dependencies.Content{
			Checksum: checksum, Signatures: []string{"!", resource.EncodeSignature(signature)}, RequestedBy: "alice",
		}, key.ID
	}
	content, id := signedBy(ours)
	foreign, foreignID := signedBy(theirs)
	for name, tc := range map[string]struct {
		mode    config.RequesterMode
		content *dependencies.Content
		result  policy.Result
		keyID   string
		want    string
	}{
		"known":              {config.RequesterRecord, content, policy.Passed, id, "alice"},
		"off":                {config.RequesterOff, content, policy.Passed, id, ""},
		"failed":             {config.RequesterRequired, content, policy.Failed, id, ""},
		"of another signer":  {config.RequesterRequired, foreign, policy.Passed, foreignID, ""},
		"passed by another":  {config.RequesterRequired, content, policy.Passed, foreignID, ""},
		"content is unknown": {config.RequesterRequired, nil, policy.Passed, id, ""},
	} {
		r := &reporter{Inputs{
			Config:   func() *config.Config { return &config.Config{Requester: tc.mode} },
			Verifier: &verification.Verifier{Keys: ownKeys(func() *keys.Ring { return ours })},
		}}
		record := attestation.Record{
			Dependency: dependencies.Dependency{Content: tc.content},
			Verdict:    policy.Verdict{Outcome: policy.Outcome{Result: tc.result, KeyID: tc.keyID}},
		}
		if got := r.requester(record); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func x509Ring(t *testing.T) *keys.Ring {
	t.Helper()
	dir := t.TempDir()
	secret, _, err := fixtures.X509Secret()
	if err == nil {
		err = secret.Write(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return keys.Load(t.Context(), dir, keys.Settings{SignerTypes: []string{chainssigning.TypeX509}})
}
