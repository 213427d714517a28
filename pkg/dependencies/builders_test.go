// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/tektoncd/pipeline/pkg/apis/config"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	pipelinev1beta1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/apis/resolution/v1beta1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

const namespace = "ns"

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// objectStore holds the resources of a cluster.
type objectStore map[objectKey]resource.Object

func (s objectStore) Object(_ context.Context, kind resource.Kind, namespace, name string) (resource.Object, error) {
	object, found := s[objectKey{kind, namespace, name}]
	if !found {
		return nil, nil
	}
	return object, nil
}

func (s objectStore) put(objects ...resource.Object) {
	for _, object := range objects {
		s[objectKey{resource.KindOf(object), object.GetNamespace(), object.GetName()}] = object
	}
}

func (s objectStore) remove(object resource.Object) {
	delete(s, objectKey{resource.KindOf(object), object.GetNamespace(), object.GetName()})
}

// requestStore holds the ResolutionRequests of a cluster.
type requestStore map[requestKey]*v1beta1.ResolutionRequest

var errNotFound = errors.New("not found")

func (s requestStore) Request(_ context.Context, namespace, name string) (*v1beta1.ResolutionRequest, error) {
	request, found := s[requestKey{namespace, name}]
	if !found {
		return nil, errNotFound
	}
	return request, nil
}

// testCluster holds what a Collector reads.
type testCluster struct {
	*Collector
	t           *testing.T
	objects     objectStore
	requests    requestStore
	written     map[string]bool   // names of objects that were written to after the creation of the run
	replaced    map[string]bool   // names of TaskRuns that took the place of others
	stored      map[string]string // signatures in a registry by checksum
	registryErr error             // of the registry
}

// Signature implements StoredSignatures.
func (w *testCluster) Signature(_ context.Context, _ resource.Kind, _, _ string, checksum []byte) (string, error) {
	return w.stored[hex.EncodeToString(checksum)], w.registryErr
}

// CreatedAfter implements RunCreations.
func (w *testCluster) CreatedAfter(_, object metav1.Object) bool { return !w.written[object.GetName()] }

// IsFirstChild implements RunCreations.
func (w *testCluster) IsFirstChild(_, child metav1.Object) bool { return !w.replaced[child.GetName()] }

// repositories is the prefix of the repositories in which the cluster stores bundles.
const repositories = "registry.example/tekton/"

// Namespace implements Repositories.
func (w *testCluster) Namespace(repository string) (string, bool) {
	return strings.CutPrefix(repository, repositories)
}

func newTestCluster(t *testing.T) *testCluster {
	t.Helper()
	w := &testCluster{t: t, objects: objectStore{}, requests: requestStore{}}
	w.Collector = &Collector{Objects: w.objects, Requests: w.requests, Creations: w, Stored: w, Repositories: w}
	return w
}

// resolve adds a ResolutionRequest with that name, as a resolver answers it for the run.
func (w *testCluster) resolve(run metav1.Object, name string, content runtime.Object, source v1.RefSource) *v1beta1.ResolutionRequest {
	w.t.Helper()
	request := &v1beta1.ResolutionRequest{ObjectMeta: metav1.ObjectMeta{
		Namespace: run.GetNamespace(), Name: name,
		OwnerReferences: []metav1.OwnerReference{{Name: run.GetName(), UID: run.GetUID()}},
	}}
	request.Status.Data = base64.StdEncoding.EncodeToString(must(json.Marshal(content)))
	request.Status.RefSource = &source
	request.Status.SetConditions(apis.Conditions{{Type: apis.ConditionSucceeded, Status: corev1.ConditionTrue}})
	w.requests[requestKey{run.GetNamespace(), name}] = request
	return request
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-of-" + name)}
}

func typed(kind resource.Kind, version string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: string(kind), APIVersion: "tekton.dev/" + version}
}

// task builds a Task with one step with that script.
func task(name, script string, modifiers ...func(*v1.Task)) *v1.Task {
	t := &v1.Task{TypeMeta: typed(resource.Task, "v1"), ObjectMeta: meta(name), Spec: v1.TaskSpec{
		Steps: []v1.Step{{Name: "step", Image: "alpine", Script: script}},
	}}
	for _, modify := range modifiers {
		modify(t)
	}
	return t
}

func stepAction(name, script string) *pipelinev1beta1.StepAction {
	return &pipelinev1beta1.StepAction{
		TypeMeta: typed(resource.StepAction, "v1beta1"), ObjectMeta: meta(name),
		Spec: pipelinev1beta1.StepActionSpec{Image: "alpine", Script: script},
	}
}

func pipeline(name string, tasks ...v1.PipelineTask) *v1.Pipeline {
	return &v1.Pipeline{TypeMeta: typed(resource.Pipeline, "v1"), ObjectMeta: meta(name), Spec: v1.PipelineSpec{Tasks: tasks}}
}

func taskRun(name string, modifiers ...func(*v1.TaskRun)) *v1.TaskRun {
	tr := &v1.TaskRun{ObjectMeta: meta(name)}
	for _, modify := range modifiers {
		modify(tr)
	}
	return tr
}

func pipelineRun(modifiers ...func(*v1.PipelineRun)) *v1.PipelineRun {
	pr := &v1.PipelineRun{ObjectMeta: meta("run")}
	for _, modify := range modifiers {
		modify(pr)
	}
	return pr
}

func param(name string, value *v1.ParamValue) v1.Param { return v1.Param{Name: name, Value: *value} }

func text(value string) *v1.ParamValue { return v1.NewStructuredValues(value) }

func array(values ...string) *v1.ParamValue {
	return &v1.ParamValue{Type: v1.ParamTypeArray, ArrayVal: append([]string{}, values...)}
}

func sign[O metav1.Object](object O, signature string) O {
	object.SetAnnotations(map[string]string{trustedresources.SignatureAnnotation: signature})
	return object
}

func digestOf(t *testing.T, object resource.Object) string {
	t.Helper()
	return hex.EncodeToString(must(resource.Checksum(t.Context(), object, tekton.Newest)))
}

// clusterSource returns the source that the cluster resolver records.
func clusterSource(t *testing.T, object resource.Object) v1.RefSource {
	t.Helper()
	return v1.RefSource{
		URI:    clusterURI(resource.KindOf(object), object.GetNamespace(), object.GetName(), object.GetUID()),
		Digest: map[string]string{sha256Digest: digestOf(t, object)},
	}
}

var gitSource = v1.RefSource{URI: "git+https://git.example/catalog", Digest: map[string]string{"sha1": "c0ffee"}, EntryPoint: "task.yaml"}

func resolverRef(resolver v1.ResolverName, params ...v1.Param) v1.ResolverRef {
	return v1.ResolverRef{Resolver: resolver, Params: params}
}

func featureFlags(noMatchPolicy string) *config.FeatureFlags {
	return &config.FeatureFlags{VerificationNoMatchPolicy: noMatchPolicy}
}
