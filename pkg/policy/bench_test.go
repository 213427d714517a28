// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"os"
	"testing"

	"github.com/trusted-resources/chains-extension/test/bench/verification"
)

// BenchmarkVerify compares the checksum alone, Tekton's verifier, ours without a cache,
// and ours with a cached verdict. Set VERIFICATION_KMS to the reference to a key to
// include a KMS.
func BenchmarkVerify(b *testing.B) {
	kmsRef := os.Getenv(verification.KMSVariable)
	for _, scenario := range verification.Scenarios(kmsRef != "") {
		comparison, err := verification.NewComparison(b.Context(), scenario, kmsRef)
		if err != nil {
			b.Fatal(err)
		}
		for _, method := range comparison.Methods() {
			b.Run(scenario.String()+"/"+method.Name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := method.Verify(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
