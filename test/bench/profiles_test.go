// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"knative.dev/pkg/observability/runtime"

	"github.com/trusted-resources/chains-extension/test/harness"
)

func TestEnableProfiles_SwitchesProfilingOn(t *testing.T) {
	kube := fake.NewClientset(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: harness.SystemNamespace, Name: harness.ConfigObservability},
		Data:       map[string]string{"metrics-protocol": "prometheus"},
	})
	dir := filepath.Join(t.TempDir(), "profiles")
	_, err := enableProfiles(t.Context(), kube, dir)
	check(t, err)
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
	config, err := kube.CoreV1().ConfigMaps(harness.SystemNamespace).Get(t.Context(), harness.ConfigObservability, metav1.GetOptions{})
	check(t, err)
	if config.Data["runtime-profiling"] != "enabled" || config.Data["metrics-protocol"] != "prometheus" {
		t.Errorf("got %v", config.Data)
	}
}

func TestControllerProfile_SavesHeap(t *testing.T) {
	handler := runtime.NewProfilingHandler() // the controller serves this handler
	handler.SetEnabled(true)
	p := serveProfiles(t, handler)
	check(t, p.saveHeap(t.Context(), "signed"))
	content, err := p.dir.ReadFile(p.file + "-signed-heap.pprof")
	check(t, err)
	if gzip := "\x1f\x8b"; !strings.HasPrefix(string(content), gzip) {
		t.Errorf("expected a compressed profile, found %q", content)
	}
}

func TestControllerProfile_ReportsThatProfilingIsOff(t *testing.T) {
	p := serveProfiles(t, runtime.NewProfilingHandler())
	err := p.saveHeap(t.Context(), "signed")
	if err == nil || !strings.Contains(err.Error(), harness.ConfigObservability) {
		t.Errorf("got %v", err)
	}
	if files, _ := filepath.Glob(filepath.Join(p.dir.Name(), p.file+"*")); len(files) > 0 {
		t.Errorf("saved %v", files)
	}
}

func TestControllerProfile_DropsTheIncompleteCPUProfile(t *testing.T) {
	third := make(chan struct{})
	served, requested := 0, ""
	p := serveProfiles(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if served++; served < 3 {
			requested = r.URL.String()
			_, _ = io.WriteString(w, "profile")
			return
		}
		close(third)
		<-r.Context().Done()
	}))
	stop := p.recordCPU(t.Context())
	<-third
	check(t, stop())
	files, err := filepath.Glob(filepath.Join(p.dir.Name(), p.file+"*"))
	check(t, err)
	if len(files) != 2 || filepath.Base(files[0]) != "backlog-1-cpu-000.pprof" || filepath.Base(files[1]) != "backlog-1-cpu-001.pprof" {
		t.Errorf("saved %v", files)
	}
	content, err := os.ReadFile(files[0])
	check(t, err)
	if string(content) != "profile" || requested != "/debug/pprof/profile?seconds=2" {
		t.Errorf("saved %q, the answer to %s", content, requested)
	}
}

func TestProfiles_SaveNothingUnlessEnabled(t *testing.T) {
	p := (*profiles)(nil).of(&harness.Controller{ProfilingURL: "http://127.0.0.1:0/"}, "backlog-1")
	check(t, p.saveHeap(t.Context(), "signed"))
	check(t, p.recordCPU(t.Context())())
}

// serveProfiles serves the profiles of one controller with a handler.
func serveProfiles(t *testing.T, handler http.Handler) *controllerProfile {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	dir, err := os.OpenRoot(t.TempDir())
	check(t, err)
	t.Cleanup(func() { check(t, dir.Close()) })
	return (&profiles{dir}).of(&harness.Controller{ProfilingURL: server.URL + "/debug/pprof/"}, "backlog-1")
}
