// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/tektoncd/chains/pkg/chains"
	"github.com/tektoncd/chains/pkg/chains/objects"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned/fake"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/test/fixtures"
)

// newTestSigner returns a signer with an x509 key, the TaskRun that it may sign,
// and a context with the configuration that Chains signs by.
func newTestSigner(t *testing.T) (context.Context, *runSigner, *objects.TaskRunObjectV1) {
	t.Helper()
	secret, _, err := fixtures.X509Secret()
	if err != nil {
		t.Fatal(err)
	}
	return newTestSignerWith(t, secret, &facts{})
}

func newTestSignerWith(t *testing.T, secret fixtures.Secret, emitter Emitter) (context.Context, *runSigner, *objects.TaskRunObjectV1) {
	t.Helper()
	dir := t.TempDir()
	if err := secret.Write(dir); err != nil {
		t.Fatal(err)
	}
	ctx := logging.WithLogger(t.Context(), zap.NewNop().Sugar())
	loader := keys.NewLoader(dir, func() {})
	loader.Configure(ctx, keys.Settings{})
	tr := &v1.TaskRun{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "run", UID: "uid"}}
	signer := newRunSigner(chains.ObjectSigner{Pipelineclientset: fake.NewSimpleClientset(tr)}, nil, loader, emitter)
	return chainsconfig.ToContext(ctx, withStorage(t, "tekton")), signer, objects.NewTaskRunObjectV1(tr)
}

// facts are the facts that were emitted.
type facts []observe.Fact

func (f *facts) Emit(_ context.Context, fact observe.Fact) { *f = append(*f, fact) }

func withStorage(t *testing.T, backend string) *chainsconfig.Config {
	t.Helper()
	cfg, err := chainsconfig.NewConfigFromMap(map[string]string{
		"artifacts.taskrun.signer": "x509", "artifacts.taskrun.format": "slsa/v1", "artifacts.taskrun.storage": backend,
		"artifacts.pipelinerun.signer": "none", "artifacts.oci.signer": "none",
		"storage.docdb.url": "unknown://collection",
	})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestRunSigner_SignsWithConfiguredBackends(t *testing.T) {
	ctx, signer, run := newTestSigner(t)
	if err := signer.Sign(ctx, run); err == nil {
		t.Error("the run was signed without a backend")
	}
	signer.configure(ctx, *withStorage(t, "tekton"))
	if err := signer.Sign(ctx, run); err != nil {
		t.Error(err)
	}
}

func TestRunSigner_KeepsLastGoodBackendsAfterError(t *testing.T) {
	ctx, signer, run := newTestSigner(t)
	signer.configure(ctx, *withStorage(t, "tekton"))
	signer.configure(ctx, *withStorage(t, "docdb")) // its URL cannot be opened
	if got := slices.Collect(maps.Keys(signer.current.Load().Backends)); !slices.Equal(got, []string{"tekton"}) {
		t.Errorf("got backends %q, want those of the last good configuration", got)
	}
	if err := signer.Sign(ctx, run); err != nil {
		t.Error(err)
	}
}

// The race detector reports an error if a configuration is written where a signing
// worker reads.
func TestRunSigner_ConfiguresWhileWorkersSign(t *testing.T) {
	ctx, signer, run := newTestSigner(t)
	signer.configure(ctx, *withStorage(t, "tekton"))
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for range 10 {
				if err := signer.Sign(ctx, objects.NewTaskRunObjectV1(run.DeepCopy())); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 100 {
		signer.configure(ctx, *withStorage(t, "tekton"))
		signer.configure(ctx, *withStorage(t, "docdb"))
	}
	workers.Wait()
}
