package integration

import (
	"os"
	"strings"
	"testing"

	"github.com/trusted-resources/chains-extension/test/harness"
	"github.com/trusted-resources/chains-extension/test/keys"
)

// What Chains' reconciler signs is what users of stock Chains verify: with
// cosign, of either major version, and the public key.
func TestCosignVerifiesAttestations(t *testing.T) {
	if err := harness.BuildCosigns(t.Context(), os.Stderr); err != nil {
		t.Fatal(err)
	}
	e := start(t)
	e.configure(with(withoutRegistry, map[string]string{"artifacts.taskrun.format": "slsa/v2alpha4"}))
	envelope, err := harness.Envelope(e.build(e.namespace()))
	e.check(err)
	_, stranger, err := keys.X509Secret()
	e.check(err)
	const provenance = "slsaprovenance1"
	other := strings.Repeat("0", len(harness.BuiltDigest))

	for _, cosign := range harness.Cosigns {
		t.Run(cosign.Version, func(t *testing.T) {
			e := e.in(t)
			e.check(cosign.VerifyBlobAttestation(t.Context(), e.public, envelope, provenance, harness.BuiltDigest))
			e.fails(cosign.VerifyBlobAttestation(t.Context(), stranger, envelope, provenance, harness.BuiltDigest),
				"accepted signatures do not match threshold")
			e.fails(cosign.VerifyBlobAttestation(t.Context(), e.public, envelope, provenance, other),
				"no matching subject digest found")
			e.fails(cosign.VerifyBlobAttestation(t.Context(), e.public, envelope, "slsaprovenance02", harness.BuiltDigest),
				"invalid predicate type")
		})
	}
}

// fails wants an error that says why.
func (e *env) fails(err error, why string) {
	e.Helper()
	if err == nil || !strings.Contains(err.Error(), why) {
		e.Errorf("got error %v, want one that says %q", err, why)
	}
}
