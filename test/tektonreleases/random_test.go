// SPDX-License-Identifier: Apache-2.0

//go:build matrix

package tektonreleases

import "testing"

// Our checksums of 10,000 random resources are those that the code of each release
// computes.
func TestRandomChecksums_AreThoseOfEachRelease(t *testing.T) {
	const seed, count = 2, 10_000
	lines, err := Random(seed, count)
	if err != nil {
		t.Fatal(err)
	}
	for _, release := range All {
		t.Run(release, func(t *testing.T) {
			program, err := Build(t.Context(), release)
			if err != nil {
				t.Fatal(err)
			}
			want, err := program.Checksums(t.Context(), lines)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, release, lines, want)
		})
	}
}
