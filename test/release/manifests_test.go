// SPDX-License-Identifier: Apache-2.0

//go:build release

package release

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

func TestManifests_NameTheImageByDigest(t *testing.T) {
	found := 0
	for _, file := range files(t) {
		if !strings.HasPrefix(file, "release-") && file != "release.yaml" || file == "release-admission.yaml" || file == "release-webhook.yaml" {
			continue
		}
		found++
		content, err := os.ReadFile(dist(file))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(content), "image: "+made.image.Name()+"\n"); got != 1 {
			t.Errorf("%s names %s %d times, want once", file, made.image.Name(), got)
		}
		if strings.Contains(string(content), "ko://") {
			t.Errorf("%s names an image that only ko knows", file)
		}
		if !strings.Contains(string(content), "version: "+version+"\n") {
			t.Errorf("%s: the ConfigMap chains-info has another version than %s", file, version)
		}
	}
	const overlays = 4
	if found != 1+overlays {
		t.Errorf("%d manifests, want %d", found, 1+overlays)
	}
}

// The image of the webhook is in the same release, and beside the other in the registry.
func TestManifests_NameTheImageOfTheWebhookByDigest(t *testing.T) {
	content, err := os.ReadFile(dist("release-webhook.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`image: (\S+/webhook@sha256:[0-9a-f]{64})\n`).FindAllSubmatch(content, -1)
	if len(named) != 1 || bytes.Contains(content, []byte("ko://")) {
		t.Fatalf("release-webhook.yaml names the images %q, want one by digest", named)
	}
	reference, err := name.NewDigest(string(named[0][1]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Index(reference); err != nil {
		t.Errorf("%s is not in the registry: %v", reference, err)
	}
}

// A real API server accepts the manifests of the release, and the program of the image
// starts with the rights that they give.
func TestRelease_Installs(t *testing.T) {
	binaries, err := harness.Build(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	binaries.Controller = controllerOfImage(t)
	cluster, err := harness.Run(t.Context(), binaries, t.TempDir(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	}()
	for _, file := range []string{"release.yaml", "release-admission.yaml"} {
		if out, err := cluster.RunKubectl(t.Context(), "", "apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", dist(file)); err != nil {
			t.Fatal(out, err)
		}
	}
	secrets := t.TempDir()
	secret, _, err := fixtures.CosignSecret()
	if err != nil {
		t.Fatal(err)
	}
	if err := secret.Write(secrets); err != nil {
		t.Fatal(err)
	}
	controller, err := cluster.AddController(t.Context(), "controller", secrets)
	if err != nil {
		t.Fatal(err)
	}
	log, err := controller.Log()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log, `"version":"`+version+`"`) {
		t.Errorf("the log does not name the version %s:\n%s", version, log)
	}
	if err := controller.Remove(t.Context()); err != nil {
		t.Error(err)
	}
}

// controllerOfImage writes the program of the image for this machine to a file.
func controllerOfImage(t *testing.T) string {
	t.Helper()
	for _, image := range platformImages(t) {
		if image.platform == "linux/"+runtime.GOARCH {
			file := filepath.Join(t.TempDir(), "controller")
			if err := os.WriteFile(file, contentOf(t, image.image)[programFile], 0o700); err != nil {
				t.Fatal(err)
			}
			return file
		}
	}
	t.Fatalf("no image for linux/%s", runtime.GOARCH)
	return ""
}
