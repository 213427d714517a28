// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned/fake"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"

	"github.com/trusted-resources/chains-extension/pkg/audit"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// served are the bodies of an API server's responses, by path. The metadata has
// the fields that informers drop from their caches.
var served = map[string]string{
	"/apis/tekton.dev/v1/namespaces/ns/tasks/build": `{"apiVersion":"tekton.dev/v1","kind":"Task",` + servedMeta +
		`"spec":{"params":[{"name":"p"}],"steps":[{"image":"alpine"}]}}`,
	"/apis/tekton.dev/v1/namespaces/ns/pipelines/build": `{"apiVersion":"tekton.dev/v1","kind":"Pipeline",` + servedMeta +
		`"spec":{"tasks":[{"name":"a","taskRef":{"name":"build"}}]}}`,
	"/apis/tekton.dev/v1beta1/namespaces/ns/stepactions/build": `{"apiVersion":"tekton.dev/v1beta1","kind":"StepAction",` + servedMeta +
		`"spec":{"image":"alpine"}}`,
}

const servedMeta = `"metadata":{"namespace":"ns","name":"build","uid":"uid","resourceVersion":"7","generation":2,` +
	`"creationTimestamp":"2026-07-01T12:00:00Z","labels":{"l":"v"},` +
	`"annotations":{"tekton.dev/signature":"c2ln","kubectl.kubernetes.io/last-applied-configuration":"{}","a":"v"},` +
	`"managedFields":[{"manager":"kubectl","operation":"Apply","apiVersion":"tekton.dev/v1","fieldsType":"FieldsV1","fieldsV1":{}}]},`

func servedObjects(t *testing.T) objects {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, found := served[r.URL.Path]
		w.Header().Set("Content-Type", "application/json")
		if !found {
			w.WriteHeader(http.StatusNotFound)
			body = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`
		}
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	client, err := versioned.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return objects{client}
}

// cachedObject returns the object as an informer keeps it: without managedFields
// and the last applied configuration.
func cachedObject(t *testing.T, kind resource.Kind, body string) resource.Object {
	t.Helper()
	object := map[resource.Kind]resource.Object{resource.Task: &v1.Task{}, resource.Pipeline: &v1.Pipeline{}, resource.StepAction: &v1beta1.StepAction{}}[kind]
	if err := json.Unmarshal([]byte(body), object); err != nil {
		t.Fatal(err)
	}
	object.SetManagedFields(nil)
	annotations := object.GetAnnotations()
	delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
	object.SetAnnotations(annotations)
	return object
}

func checksum(t *testing.T, object resource.Object) []byte {
	t.Helper()
	sum, err := resource.Checksum(t.Context(), object, tekton.Newest)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestObjects_HaveTheChecksumOfCachedObjects(t *testing.T) {
	objects := servedObjects(t)
	for _, kind := range resource.Kinds {
		got, err := objects.Object(t.Context(), kind, "ns", "build")
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		path := "/apis/" + kind.GroupVersionKind().GroupVersion().String() + "/namespaces/ns/" + strings.ToLower(string(kind)) + "s/build"
		cached := cachedObject(t, kind, served[path])
		if resource.KindOf(got) != kind || !reflect.DeepEqual(checksum(t, got), checksum(t, cached)) {
			t.Errorf("%s: got %+v, want the checksum of %+v", kind, got, cached)
		}
		if got.GetUID() != "uid" || got.GetResourceVersion() != "7" || got.GetAnnotations()["tekton.dev/signature"] != "c2ln" {
			t.Errorf("%s: got metadata %+v", kind, got)
		}
	}
}

func TestObjects_ReturnNilForAnObjectThatDoesNotExist(t *testing.T) {
	objects := servedObjects(t)
	for _, kind := range resource.Kinds {
		for _, name := range [][2]string{{"ns", "gone"}, {"", "build"}, {"ns", ""}} {
			if got, err := objects.Object(t.Context(), kind, name[0], name[1]); got != nil || err != nil {
				t.Errorf("%s %q: got %v and %v", kind, name, got, err)
			}
		}
	}
}

func TestObjects_ReturnOtherErrors(t *testing.T) {
	refused := errors.New("connection refused")
	client := fake.NewSimpleClientset()
	client.PrependReactor("get", "*", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, refused })
	for _, kind := range resource.Kinds {
		if got, err := (objects{client}).Object(t.Context(), kind, "ns", "build"); got != nil || !errors.Is(err, refused) {
			t.Errorf("%s: got %v and %v", kind, got, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := servedObjects(t).Object(ended, resource.Task, "ns", "build"); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: got %v", err)
	}
}

// A patch of an attempt has the attempt as audit ID, and any other patch lets the API server
// choose one.
func TestPatcher_SendsTheAttemptAsAuditID(t *testing.T) {
	var received http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		received = r.Header
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{"name":"build"}}`))
	}))
	defer server.Close()
	patcher := newPatcher(&rest.Config{Host: server.URL})
	const attempt = "5f0c6d3e-0c2b-4b8e-9a51-7d1f0a6f2c11"
	for name, tc := range map[string]struct {
		ctx  context.Context
		want []string
	}{
		"an attempt":         {audit.WithAttempt(t.Context(), attempt), []string{attempt}},
		"no attempt":         {t.Context(), nil},
		"an attempt of \"\"": {audit.WithAttempt(t.Context(), ""), nil},
	} {
		if _, err := patcher.Patch(tc.ctx, resource.Task, "ns", "build", []byte("{}")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := received.Values("Audit-ID"); !slices.Equal(got, tc.want) {
			t.Errorf("%s: got audit IDs %q, want %q", name, got, tc.want)
		}
	}
}
