// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned/scheme"
)

func checkContent(content string) error {
	elements, err := Elements([]byte(content))
	return errors.Join(err, CheckContent([]byte(content), elements))
}

func TestCheckContent_AcceptsContent(t *testing.T) {
	for name, content := range map[string]string{
		"empty":                 "",
		"JSON":                  `{"steps": [{"script": "rm *"}, {}]}`,
		"JSON with long script": `{"steps": [{"script": "` + strings.Repeat(`,[{\"\\`, 200_000) + `"}]}`,
		"JSON with many texts":  `{"args": [` + strings.Repeat(`"x",`, 200_000) + `"x"]}`,
		"YAML":                  "steps:\n- script: |\n    rm * &\n",
		"YAML with long script": "steps:\n- script: |\n" + strings.Repeat("    a\n", 200_000),
		"YAML with aliases":     "a: &a {image: alpine}\nsteps:\n- *a\n- *a\n",
	} {
		if err := checkContent(content); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckContent_RefusesContentThatExpands(t *testing.T) {
	long := "a: &a " + strings.Repeat("x", 100<<10) + "\n"
	nested := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for _, level := range []string{"ab", "bc", "cd", "de", "ef", "fg"} {
		alias := "*" + level[:1]
		nested += level[1:] + ": &" + level[1:] + " [" + strings.Repeat(alias+" ,", 8) + alias + " ]\n"
	}
	for name, content := range map[string]string{
		"empty steps":      "steps:\n" + strings.Repeat("-\n", maxDecoded+1),
		"more empty steps": "steps:\n" + strings.Repeat("-\n", MaxElements),
		"JSON":             `{"steps": [` + strings.Repeat("{},", maxDecoded) + "{}]}",
		"JSON with nulls":  `{"steps": [` + strings.Repeat("null,", maxDecoded) + "null]}",
		"aliases":          long + "b: [" + strings.Repeat("*a,", 50) + "*a]\n",
		"nested aliases":   nested,
		"alias to itself":  "a: &a [*a]\n",
	} {
		if err := checkContent(content); !errors.Is(err, ErrExpands) {
			t.Errorf("%s: got %v, want ErrExpands", name, err)
		}
	}
}

// Content that is accepted takes a bounded amount of memory when Tekton's decoder reads
// it.
func FuzzContent(f *testing.F) {
	const header = "apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {name: build}\n"
	f.Add([]byte(header + "spec: {steps: [{image: alpine}]}\n"))
	f.Add([]byte(header + "spec:\n  steps:\n" + strings.Repeat("  -\n", 1000)))
	f.Add([]byte(header + "spec:\n  description: &a " + strings.Repeat("x", 1000) + "\n  steps:\n  - args: [" + strings.Repeat("*a,", 1000) + "*a]\n"))
	f.Add([]byte(`{"apiVersion":"tekton.dev/v1","kind":"Task","spec":{"steps":[` + strings.Repeat("{},", 1000) + "null]}}"))
	f.Fuzz(func(t *testing.T, content []byte) {
		if checkContent(string(content)) != nil {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, _ = scheme.Codecs.UniversalDeserializer().Decode(content, nil, nil) // whether it is a resource does not matter
		runtime.ReadMemStats(&after)
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 512<<20 {
			t.Fatalf("decoding %d bytes allocated %d MiB", len(content), allocated>>20)
		}
	})
}
