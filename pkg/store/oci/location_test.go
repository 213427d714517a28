package oci

import (
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

func repeated(s string, n int) string { return strings.Repeat(s, n) }

func TestNamesStayBelowThePrefix(t *testing.T) {
	for name, tc := range map[string]struct {
		id   ID
		want string // empty: refused
	}{
		"usual":                  {ID{resource.Task, "prod", "build"}, "registry.example/tekton/prod"},
		"digits":                 {ID{resource.Pipeline, "1", "0"}, "registry.example/tekton/1"},
		"dashes":                 {ID{resource.Task, "a--b", "a--b"}, "registry.example/tekton/a--b"},
		"dots in a name":         {ID{resource.StepAction, "prod", "a.b.c"}, "registry.example/tekton/prod"},
		"the longest":            {ID{resource.Task, repeated("n", 63), repeated("n", 253)}, "registry.example/tekton/" + repeated("n", 63)},
		"a namespace too long":   {ID{resource.Task, repeated("n", 64), "build"}, ""},
		"a name too long":        {ID{resource.Task, "prod", repeated("n", 254)}, ""},
		"no namespace":           {ID{resource.Task, "", "build"}, ""},
		"no name":                {ID{resource.Task, "prod", ""}, ""},
		"no kind":                {ID{"", "prod", "build"}, ""},
		"another kind":           {ID{"Pod", "prod", "build"}, ""},
		"a kind in lower case":   {ID{"task", "prod", "build"}, ""},
		"a kind that is a path":  {ID{"../task", "prod", "build"}, ""},
		"up":                     {ID{resource.Task, "..", "build"}, ""},
		"up and down":            {ID{resource.Task, "../other", "build"}, ""},
		"here":                   {ID{resource.Task, ".", "build"}, ""},
		"further down":           {ID{resource.Task, "a/b", "build"}, ""},
		"a name that is a path":  {ID{resource.Task, "prod", "../build"}, ""},
		"upper case":             {ID{resource.Task, "Prod", "build"}, ""},
		"a name in upper case":   {ID{resource.Task, "prod", "Build"}, ""},
		"a tag":                  {ID{resource.Task, "prod:x", "build"}, ""},
		"a digest":               {ID{resource.Task, "prod@sha256", "build"}, ""},
		"a tag in the name":      {ID{resource.Task, "prod", "build:x"}, ""},
		"a digest in the name":   {ID{resource.Task, "prod", "build@x"}, ""},
		"an underscore":          {ID{resource.Task, "prod", "a_b"}, ""},
		"a dot at the end":       {ID{resource.Task, "prod", "build."}, ""},
		"a dash at the start":    {ID{resource.Task, "-prod", "build"}, ""},
		"a dot in the namespace": {ID{resource.Task, "a.b", "build"}, ""},
		"encoded":                {ID{resource.Task, "%2e%2e", "build"}, ""},
		"another alphabet":       {ID{resource.Task, "ｐrod", "build"}, ""},
		"a line":                 {ID{resource.Task, "prod\n", "build"}, ""},
		"a zero":                 {ID{resource.Task, "prod", "build\x00"}, ""},
	} {
		got, err := Repository("registry.example/tekton", tc.id)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: got %q and %v", name, got, err)
		}
	}
}

func TestPrefixesThatAreNone(t *testing.T) {
	id := ID{resource.Task, "prod", "build"}
	for _, prefix := range []string{"", "/", "tekton", "a/b", "registry.example:x", "registry.example/A", "registry.example/a:tag", "registry.example/a@x", "registry.example/" + repeated("a", 251), "registry.example /a"} {
		if got, err := Repository(prefix, id); err == nil {
			t.Errorf("%q: got %q", prefix, got)
		}
	}
	for prefix, want := range map[string]string{
		"registry.example": "registry.example/prod", "localhost:5000/a": "localhost:5000/a/prod", "registry.example/a/b": "registry.example/a/b/prod",
	} {
		if got, err := Repository(prefix, id); err != nil || got != want {
			t.Errorf("%q: got %q and %v", prefix, got, err)
		}
	}
}

func TestTagsOfStatesAndNames(t *testing.T) {
	sum := make([]byte, 32)
	if got := StateTag(sum); got != repeated("0", 64) {
		t.Errorf("got %s", got)
	}
	if got := keptTag(sum, digest.Digest("sha256:"+repeated("a", 64))); got != repeated("0", 64)+"-"+repeated("a", 16) {
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

// Names that are alike, and one that is made to look like the tag of another.
func TestNoTwoResourcesShareATag(t *testing.T) {
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

// Whatever it is called, a resource stays where its namespace is, under tags
// that registries take, and no other resource's.
func FuzzLocation(f *testing.F) {
	f.Add("Task", "prod", "build", "Pipeline", "build")
	f.Add("Task", "..", "../x", "task", "x@y:z/")
	f.Add("Task", "prod", repeated("n", 253), "Task", repeated("n", 58)+"-"+repeated("0", 64))
	f.Add("StepAction", repeated("n", 63), repeated("n", 117), "Task", "a.b")
	f.Fuzz(func(t *testing.T, kind, namespace, one, otherKind, another string) {
		a, b := ID{resource.Kind(kind), namespace, one}, ID{resource.Kind(otherKind), namespace, another}
		repository, err := Repository("registry.example/tekton", a)
		if err != nil {
			return
		}
		tag, err := name.NewTag(repository+":"+NewestTag(a), name.StrictValidation)
		if err != nil {
			t.Fatalf("%s: %v", a, err)
		}
		path := tag.RepositoryStr()
		if tag.RegistryStr() != "registry.example" || path != "tekton/"+namespace || strings.Count(path, "/") != 1 || strings.Contains(path, "..") || tag.TagStr() != NewestTag(a) {
			t.Fatalf("%s is %s", a, tag)
		}
		if _, err := Repository("registry.example/tekton", b); err == nil && a != b && NewestTag(a) == NewestTag(b) {
			t.Fatalf("%s and %s share %s", a, b, NewestTag(a))
		}
		if strings.Trim(tag.TagStr(), "0123456789abcdef-") == "" {
			t.Fatalf("%s may be the tag of a state", tag)
		}
	})
}
