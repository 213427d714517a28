// SPDX-License-Identifier: Apache-2.0

package tektonreleases

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
)

// random resources in the fixture. The test of make matrix has 10,000.
const (
	random = 160
	seed   = 1
)

// Fixture returns the JSON of the resources whose checksums are in testdata: the
// examples of all releases, each content once, and random resources. The examples are
// read from the modules of the releases.
func Fixture(ctx context.Context) ([][]byte, error) {
	seen := map[string]bool{}
	var lines [][]byte
	for _, release := range All {
		dir, err := Dir(ctx, release)
		if err != nil {
			return nil, err
		}
		examples, err := Examples(dir)
		if err != nil {
			return nil, err
		}
		for _, example := range examples {
			line, err := json.Marshal(example.Document.Object)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", example.ID(), err)
			}
			if !seen[string(line)] {
				seen[string(line)] = true
				lines = append(lines, line)
			}
		}
	}
	more, err := Random(seed, random)
	return slices.Concat(lines, more), err
}
