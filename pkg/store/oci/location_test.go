// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

func repeated(s string, n int) string { return strings.Repeat(s, n) }

func TestRepositoryName_RejectsInvalidIDs(t *testing.T) {
	for name, tc := range map[string]struct {
		id   ID
		want string // empty: an error
	}{
		"simple":                          {ID{resource.Task, "prod", "build"}, "registry.example/tekton/prod"},
		"digits":                          {ID{resource.Pipeline, "1", "0"}, "registry.example/tekton/1"},
		"dashes":                          {ID{resource.Task, "a--b", "a--b"}, "registry.example/tekton/a--b"},
		"dots in a name":                  {ID{resource.StepAction, "prod", "a.b.c"}, "registry.example/tekton/prod"},
		"longest namespace and name":      {ID{resource.Task, repeated("n", 63), repeated("n", 253)}, "registry.example/tekton/" + repeated("n", 63)},
		"namespace too long":              {ID{resource.Task, repeated("n", 64), "build"}, ""},
		"name too long":                   {ID{resource.Task, "prod", repeated("n", 254)}, ""},
		"empty namespace":                 {ID{resource.Task, "", "build"}, ""},
		"empty name":                      {ID{resource.Task, "prod", ""}, ""},
		"empty kind":                      {ID{"", "prod", "build"}, ""},
		"unknown kind":                    {ID{"Pod", "prod", "build"}, ""},
		"kind in lower case":              {ID{"task", "prod", "build"}, ""},
		"kind is a path":                  {ID{"../task", "prod", "build"}, ""},
		"namespace is parent directory":   {ID{resource.Task, "..", "build"}, ""},
		"namespace with parent directory": {ID{resource.Task, "../other", "build"}, ""},
		"namespace is a dot":              {ID{resource.Task, ".", "build"}, ""},
		"namespace with slash":            {ID{resource.Task, "a/b", "build"}, ""},
		"name is a path":                  {ID{resource.Task, "prod", "../build"}, ""},
		"namespace in upper case":         {ID{resource.Task, "Prod", "build"}, ""},
		"name in upper case":              {ID{resource.Task, "prod", "Build"}, ""},
		"namespace with tag":              {ID{resource.Task, "prod:x", "build"}, ""},
		"namespace with digest":           {ID{resource.Task, "prod@sha256", "build"}, ""},
		"name with tag":                   {ID{resource.Task, "prod", "build:x"}, ""},
		"name with digest":                {ID{resource.Task, "prod", "build@x"}, ""},
		"name with underscore":            {ID{resource.Task, "prod", "a_b"}, ""},
		"name ends in dot":                {ID{resource.Task, "prod", "build."}, ""},
		"namespace starts with dash":      {ID{resource.Task, "-prod", "build"}, ""},
		"namespace with dot":              {ID{resource.Task, "a.b", "build"}, ""},
		"namespace percent-encoded":       {ID{resource.Task, "%2e%2e", "build"}, ""},
		"full-width letter":               {ID{resource.Task, "ｐrod", "build"}, ""},
		"namespace with newline":          {ID{resource.Task, "prod\n", "build"}, ""},
		"name with zero byte":             {ID{resource.Task, "prod", "build\x00"}, ""},
	} {
		got, err := RepositoryName("registry.example/tekton", tc.id)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: got %q and %v", name, got, err)
		}
	}
}

func TestRepositoryName_ValidatesPrefix(t *testing.T) {
	id := ID{resource.Task, "prod", "build"}
	for _, prefix := range []string{"", "/", "tekton", "a/b", "registry.example:x", "registry.example/A", "registry.example/a:tag", "registry.example/a@x", "registry.example/" + repeated("a", 251), "registry.example /a"} {
		if got, err := RepositoryName(prefix, id); err == nil {
			t.Errorf("%q: got %q", prefix, got)
		}
	}
	for prefix, want := range map[string]string{
		"registry.example": "registry.example/prod", "localhost:5000/a": "localhost:5000/a/prod", "registry.example/a/b": "registry.example/a/b/prod",
	} {
		if got, err := RepositoryName(prefix, id); err != nil || got != want {
			t.Errorf("%q: got %q and %v", prefix, got, err)
		}
	}
}

func TestNamespaceOf_IsTheReverseOfRepositoryName(t *testing.T) {
	long := repeated("n", 63)
	for _, tc := range []struct{ prefix, repository, want string }{
		{"registry.example/tekton", "registry.example/tekton/prod", "prod"},
		{"registry.example/tekton", "registry.example/tekton/" + long, long},
		{"registry.example", "registry.example/prod", "prod"},
		{"localhost:5000/a/b", "localhost:5000/a/b/prod", "prod"},
		{"docker.io/me/tekton", "index.docker.io/me/tekton/prod", "prod"}, // as Tekton records it
		{"registry.example/tekton", "REGISTRY.example/tekton/prod", "prod"},

		{"registry.example/tekton", "registry.example/tekton", ""},
		{"registry.example/tekton", "registry.example/tekton-dev/prod", ""},
		{"registry.example/tekton", "registry.example/tektonprod", ""},
		{"registry.example/tekton", "registry.example/tekton/prod/build", ""},
		{"registry.example/tekton", "registry.example/tekton/a_b", ""},
		{"registry.example/tekton", "registry.example/tekton/" + long + "n", ""},
		{"registry.example/tekton", "registry.example/other/prod", ""},
		{"registry.example/tekton", "registry.example/x/tekton/prod", ""},
		{"registry.example/tekton", "other.example/tekton/prod", ""},
		{"registry.example/tekton", "registry.example:444/tekton/prod", ""},
		{"registry.example/tekton", "registry.example/tekton/../prod", ""},
		{"registry.example/tekton", "https://registry.example/tekton/prod", ""},
		{"registry.example/tekton", "git+https://registry.example/tekton/prod", ""},
		{"registry.example/tekton", "/apis/tekton.dev/v1/namespaces/prod/task/build@uid", ""},
		{"registry.example/tekton", "", ""},
		{"", "registry.example/tekton/prod", ""},
		{"", "prod", ""},
	} {
		if got, ok := NamespaceOf(tc.prefix, tc.repository); got != tc.want || ok != (tc.want != "") {
			t.Errorf("%s below %s: got %q %v, want %q", tc.repository, tc.prefix, got, ok, tc.want)
		}
	}
}

func TestTags_HaveDocumentedForm(t *testing.T) {
	sum := make([]byte, 32)
	if got := StateTag(sum); got != repeated("0", 64) {
		t.Errorf("got %s", got)
	}
	if got := displacedTag(sum, digest.Digest("sha256:"+repeated("a", 64))); got != repeated("0", 64)+"-"+repeated("a", 16) {
		t.Errorf("got %s", got)
	}
	for want, id := range map[string]ID{
		"task.build":                       {resource.Task, "prod", "build"},
		"pipeline.a.b":                     {resource.Pipeline, "prod", "a.b"},
		"task." + repeated("n", 123):       {resource.Task, "prod", repeated("n", 123)},
		"stepaction." + repeated("n", 117): {resource.StepAction, "prod", repeated("n", 117)},
	} {
		if got := NewestTag(id); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := NewestTag(ID{resource.Task, "prod", repeated("n", 253)}); len(got) != maxTag || !strings.HasPrefix(got, "task.nnnn") {
		t.Errorf("got %s", got)
	}
}

// The names are similar to each other, or imitate the hashed tag of another name.
func TestNewestTag_IsUnique(t *testing.T) {
	long := repeated("n", 253)
	victim := NewestTag(ID{resource.Task, "prod", long})
	names := []string{
		"build", "task.build", "pipeline.build", "a.b", "a-b", long, long[:252], long[:252] + "m", repeated("n", 124), repeated("n", 123),
		strings.TrimPrefix(victim, "task."), strings.ReplaceAll(strings.TrimPrefix(victim, "task."), "_", "-"), strings.ReplaceAll(strings.TrimPrefix(victim, "task."), "_", "."),
		repeated("0", 64), repeated("0", 64) + "-" + repeated("0", 16),
	}
	seen := map[string]ID{}
	for _, kind := range resource.Kinds {
		for _, n := range names {
			id := ID{kind, "prod", n}
			if id.validate() != nil {
				continue
			}
			tag := NewestTag(id)
			if other, taken := seen[tag]; taken {
				t.Errorf("%s and %s share %s", id, other, tag)
			}
			seen[tag] = id
			if _, err := name.NewTag("registry.example/tekton/prod:"+tag, name.StrictValidation); err != nil {
				t.Error(err)
			}
		}
	}
}

// For all names that pass validation: the repository is the one of the namespace, and
// of no other, the tag is valid, and no other resource has the same tag.
func FuzzLocation(f *testing.F) {
	f.Add("Task", "prod", "build", "Pipeline", "build")
	f.Add("Task", "..", "../x", "task", "x@y:z/")
	f.Add("Task", "prod", repeated("n", 253), "Task", repeated("n", 58)+"-"+repeated("0", 64))
	f.Add("StepAction", repeated("n", 63), repeated("n", 117), "Task", "a.b")
	f.Fuzz(func(t *testing.T, kind, namespace, name1, otherKind, name2 string) {
		a, b := ID{resource.Kind(kind), namespace, name1}, ID{resource.Kind(otherKind), namespace, name2}
		repository, err := RepositoryName("registry.example/tekton", a)
		if err != nil {
			return
		}
		if got, ok := NamespaceOf("registry.example/tekton", repository); got != namespace || !ok {
			t.Fatalf("%s is the repository of namespace %q (%v), want %q", repository, got, ok, namespace)
		}
		tag, err := name.NewTag(repository+":"+NewestTag(a), name.StrictValidation)
		if err != nil {
			t.Fatalf("%s: %v", a, err)
		}
		path := tag.RepositoryStr()
		if tag.RegistryStr() != "registry.example" || path != "tekton/"+namespace || strings.Count(path, "/") != 1 || strings.Contains(path, "..") || tag.TagStr() != NewestTag(a) {
			t.Fatalf("%s is %s", a, tag)
		}
		if _, err := RepositoryName("registry.example/tekton", b); err == nil && a != b && NewestTag(a) == NewestTag(b) {
			t.Fatalf("%s and %s share %s", a, b, NewestTag(a))
		}
		if strings.Trim(tag.TagStr(), "0123456789abcdef-") == "" {
			t.Fatalf("%s has the form of a state tag", tag)
		}
	})
}
