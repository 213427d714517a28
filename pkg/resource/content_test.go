// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"errors"
	"strings"
	"testing"
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
