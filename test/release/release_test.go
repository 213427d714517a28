// SPDX-License-Identifier: Apache-2.0

//go:build release

package release

import (
	"bytes"
	"debug/buildinfo"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The two releases are made in different directories, one of them without a key.
func TestRelease_IsReproducible(t *testing.T) {
	first, again := filesOf(t, made.first), filesOf(t, made.again)
	for file, content := range first {
		if signed(file) {
			continue
		}
		if !bytes.Equal(content, again[file]) {
			t.Errorf("%s: %d bytes, then %d other bytes", file, len(content), len(again[file]))
		}
	}
	for file := range again {
		if _, ok := first[file]; !ok {
			t.Errorf("%s: only in the second release", file)
		}
	}
}

// signed reports whether a file of a release has or lists signatures, which differ each
// time.
func signed(file string) bool {
	return strings.HasSuffix(file, ".sigstore.json") || file == "cosign.pub" || strings.HasPrefix(file, "image/") || strings.HasPrefix(file, "image-webhook/")
}

// The image itself is the same, with and without signatures beside it.
func TestRelease_HasTheImageAsLayout(t *testing.T) {
	first, again := filesOf(t, made.first), filesOf(t, made.again)
	for file, content := range again {
		if strings.HasPrefix(file, "image/blobs/") && !bytes.Equal(content, first[file]) {
			t.Errorf("%s of the second release is not in the first", file)
		}
	}
	index := "image/blobs/" + strings.ReplaceAll(made.image.DigestStr(), ":", "/")
	if first[index] == nil {
		t.Errorf("%s, which is in the registry, is not in dist/", index)
	}
}

func TestRelease_NamesNothingOfThisMachine(t *testing.T) {
	local := regexp.MustCompile(`127\.0\.0\.1:\d+`)
	for file, content := range filesOf(t, made.first) {
		if bytes.Contains(content, []byte(filepath.Dir(made.first))) {
			t.Errorf("%s contains the directory of the source", file)
		}
		if strings.HasPrefix(file, "tkn-trust") || len(content) > 1<<20 {
			continue // libraries contain examples of addresses
		}
		for _, address := range local.FindAll(content, -1) {
			if string(address) != made.registry.Host() {
				t.Errorf("%s contains %s", file, address)
			}
		}
	}
}

func TestRelease_RefusesAnotherSourceThanTheCommit(t *testing.T) {
	file := filepath.Join(made.again, "not-committed.go")
	if err := os.WriteFile(file, []byte("package main\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(file) }()
	err := makeRelease(t.Context(), made.again, "VERSION="+version)
	if err == nil || !strings.Contains(err.Error(), filepath.Base(file)) {
		t.Errorf("got %v, want a refusal that names the file", err)
	}
}

func TestRelease_RefusesOtherArguments(t *testing.T) {
	for _, arguments := range [][]string{
		{}, {"VERSION=1.2.3"}, {"VERSION=v1.2"}, {"VERSION=v1.2.3+build"}, {"VERSION=" + version, "REPOSITORY=Not A Repository"},
	} {
		if err := makeRelease(t.Context(), made.again, arguments...); err == nil || !strings.Contains(err.Error(), "expected") {
			t.Errorf("%v: got %v, want a refusal that says what is expected", arguments, err)
		}
	}
}

func TestChecksums_AreThoseOfTheFiles(t *testing.T) {
	check := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "checksums.txt")
	check.Dir = dist("")
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	listed := files(t)
	for file := range filesOf(t, made.first) {
		later := signed(file) || file == "provenance.json" || file == "checksums.txt"
		if !later && !slices.Contains(listed, file) {
			t.Errorf("%s is not in checksums.txt", file)
		}
	}
}

func TestProgram_PrintsItsVersion(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), dist("tkn-trust-linux-amd64"), "version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(out), version+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPrograms_AreForTheirPlatforms(t *testing.T) {
	for _, platform := range []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"} {
		goos, goarch, _ := strings.Cut(platform, "/")
		file := "tkn-trust-" + goos + "-" + goarch
		if goos == "windows" {
			file += ".exe"
		}
		info, err := buildinfo.ReadFile(dist(file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		settings := map[string]string{}
		for _, setting := range info.Settings {
			settings[setting.Key] = setting.Value
		}
		for key, want := range map[string]string{"GOOS": goos, "GOARCH": goarch, "CGO_ENABLED": "0", "-trimpath": "true"} {
			if settings[key] != want {
				t.Errorf("%s: %s is %q, want %q", file, key, settings[key], want)
			}
		}
		t.Logf("%s: %.1f MB", file, float64(size(t, dist(file)))/1e6)
	}
}

// filesOf returns the files of a release by their paths below dist/.
func filesOf(t *testing.T, source string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	root := os.DirFS(filepath.Join(source, "dist"))
	err := fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		found[path], err = fs.ReadFile(root, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// files returns the names in checksums.txt.
func files(t *testing.T) []string {
	t.Helper()
	content, err := os.ReadFile(dist("checksums.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(content)) {
		_, file, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			t.Fatalf("checksums.txt has the line %q", line)
		}
		names = append(names, file)
	}
	return names
}

func size(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
