// SPDX-License-Identifier: Apache-2.0

package tektonreleases

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned/scheme"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// Our checksums of each release are those that the release's own code has computed of
// the examples of all releases and of random resources (go run ./test/tektonreleases/fixture).
func TestChecksums_AreThoseOfEachRelease(t *testing.T) {
	lines, err := Fixture(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, release := range All {
		t.Run(release, func(t *testing.T) {
			compare(t, release, lines, read(t, release+".txt"))
		})
	}
}

// A fixture of another release has other checksums.
func TestChecksums_DifferBetweenDialects(t *testing.T) {
	older, newer := read(t, All[0]+".txt"), read(t, Newest+".txt")
	if len(older) != len(newer) || len(older) < 100 {
		t.Fatalf("the fixtures have %d and %d checksums", len(older), len(newer))
	}
	for i := range older {
		if older[i] == newer[i] && !strings.HasPrefix(older[i], "-") {
			t.Errorf("resource %d has one checksum in both dialects: %s", i, older[i])
		}
	}
}

func read(t *testing.T, name string) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
}

// compare compares our checksums with those of a release. What the release cannot
// decode, it never runs.
func compare(t *testing.T, release string, lines [][]byte, want []string) {
	t.Helper()
	if len(lines) != len(want) {
		t.Fatalf("there are %d resources and %d checksums", len(lines), len(want))
	}
	installed, err := tekton.ParseRelease(release)
	if err != nil {
		t.Fatal(err)
	}
	agree, refused, differ := 0, 0, 0
	for i, line := range lines {
		got, err := ours(t.Context(), line, installed)
		switch {
		case strings.HasPrefix(want[i], "-"):
			refused++
		case err == nil && got == want[i]:
			agree++
		default:
			differ++
			if differ <= 5 {
				t.Errorf("resource %d: got %s and %v, %s computes %s: %.2000s", i, got, err, release, want[i], line)
			}
		}
	}
	t.Logf("%s: %d of %d checksums agree, %d differ, the release cannot decode %d", release, agree, len(lines), differ, refused)
	if refused*10 > len(lines) {
		t.Errorf("the release cannot decode %d of %d resources", refused, len(lines))
	}
}

var errNoResource = errors.New("not a Task, Pipeline or StepAction")

func ours(ctx context.Context, line []byte, installed tekton.Release) (string, error) {
	decoded, _, err := scheme.Codecs.UniversalDeserializer().Decode(bytes.Clone(line), nil, nil)
	if err != nil {
		return "", err
	}
	object, ok := decoded.(resource.Object)
	if !ok {
		return "", fmt.Errorf("%w: %T", errNoResource, decoded)
	}
	sums, err := resource.ChecksumsOf(ctx, object)
	return fmt.Sprintf("%x", sums.In(installed.Dialect())), err
}
