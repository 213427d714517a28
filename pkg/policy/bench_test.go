package policy_test

import (
	"os"
	"testing"

	"github.com/trusted-resources/chains-extension/test/bench/verification"
)

// The checksum alone, Tekton's verifier, and ours with nothing and all of it
// remembered. With a reference to a key in VERIFICATION_KMS also for a KMS.
func BenchmarkVerify(b *testing.B) {
	kmsRef := os.Getenv(verification.KMSVariable)
	for _, scenario := range verification.Scenarios(kmsRef != "") {
		contest, err := verification.NewContest(b.Context(), scenario, kmsRef)
		if err != nil {
			b.Fatal(err)
		}
		for _, way := range contest.Ways() {
			b.Run(scenario.String()+"/"+way.Name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := way.Do(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
