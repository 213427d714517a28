// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
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
)

// newTestSigner returns a signer with an x509 key, the TaskRun that it may sign,
// and a context with the configuration that Chains signs by.
func newTestSigner(t *testing.T) (context.Context, *runSigner, *objects.TaskRunObjectV1) {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x509.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	tr := &v1.TaskRun{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "run", UID: "uid"}}
	signer := newRunSigner(chains.ObjectSigner{SecretPath: dir, Pipelineclientset: fake.NewSimpleClientset(tr)}, nil)
	ctx := logging.WithLogger(t.Context(), zap.NewNop().Sugar())
	return chainsconfig.ToContext(ctx, withStorage(t, "tekton")), signer, objects.NewTaskRunObjectV1(tr)
}

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
