// SPDX-License-Identifier: Apache-2.0

//go:build realnode

package realnode

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// TaskRuns end before, while and after our manifests are applied over a stock Chains that
// runs as a Pod. Each of them is signed exactly once, with the key and the settings of the
// stock Chains.
func TestStockChains_IsReplacedWithoutLossOrRepetition(t *testing.T) {
	e := env{t: t}
	e.uninstall()
	e.installStock()
	ns := e.namespace()
	watched := e.watchSignatures(ns)

	const before, during, after = 3, 8, 3
	e.createRuns(ns, "before", before)
	e.waitRunsSigned(ns, before)
	image := e.pods()[0].Spec.Containers[0].Image

	created := make(chan error, 1)
	go func() { created <- createRunsSlowly(t.Context(), ns, "during", during) }()
	e.applyManifests()
	e.waitReady()
	e.check(<-created)
	if now := e.pods()[0].Spec.Containers[0].Image; now == image {
		t.Fatalf("the Pods still run the image of the stock Chains, %s", now)
	}
	e.createRuns(ns, "after", after)
	runs := e.waitRunsSigned(ns, before+during+after)
	for _, run := range runs {
		if _, err := harness.Attestation(&run, harness.TaskRun, installed.public); err != nil {
			t.Error(err)
		}
	}
	watched.expectOneEach(len(runs))
	if key := e.kubectl("-n", harness.SystemNamespace, "get", "configmap", harness.ConfigMap, "-o", `jsonpath={.data.artifacts\.taskrun\.format}`); key != stockFormat {
		t.Errorf("artifacts.taskrun.format is %q after the change, want %q", key, stockFormat)
	}
}

// stockFormat is a setting that is not the default.
const stockFormat = "slsa/v2alpha3"

// installStock installs Chains with its own manifests, from its Go module.
func (e env) installStock() {
	e.t.Helper()
	manifests, err := cluster.KoResolve(e.t.Context(), e.chainsModule(), "config/")
	e.check(err)
	e.prepareSecret()
	e.kubectl("label", "--overwrite", "namespace", harness.SystemNamespace, "pod-security.kubernetes.io/enforce=baseline")
	_, err = cluster.RunKubectl(e.t.Context(), string(manifests), "apply", "-f", "-")
	e.check(err)
	e.check(cluster.Configure(e.t.Context(), map[string]string{
		"artifacts.taskrun.format": stockFormat, "artifacts.taskrun.storage": "tekton", "artifacts.taskrun.signer": "x509",
		"artifacts.oci.signer": "none",
	}))
	e.waitReady()
}

func newRun(namespace, name string) *v1.TaskRun {
	return &v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1.TaskRunSpec{TaskSpec: &v1.TaskSpec{
			Steps: []v1.Step{{Name: "step", Image: "busybox", Script: "true"}},
		}},
	}
}

func (e env) createRuns(namespace, prefix string, n int) {
	e.t.Helper()
	for i := range n {
		_, err := cluster.Tekton.TektonV1().TaskRuns(namespace).Create(e.t.Context(), newRun(namespace, fmt.Sprintf("%s-%d", prefix, i)), metav1.CreateOptions{})
		e.check(err)
	}
}

// createRunsSlowly creates a run every two seconds.
func createRunsSlowly(ctx context.Context, namespace, prefix string, n int) error {
	ticker := time.NewTicker(2 * time.Second)
	defer ticker.Stop()
	for i := range n {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if _, err := cluster.Tekton.TektonV1().TaskRuns(namespace).Create(ctx, newRun(namespace, fmt.Sprintf("%s-%d", prefix, i)), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// waitRunsSigned waits until n runs exist and are all marked as signed.
func (e env) waitRunsSigned(namespace string, n int) []v1.TaskRun {
	e.t.Helper()
	var runs []v1.TaskRun
	e.eventually(afterStart, func() error {
		list, err := cluster.Tekton.TektonV1().TaskRuns(namespace).List(e.t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		runs = list.Items
		if len(runs) != n {
			return fmt.Errorf("%d runs, want %d", len(runs), n)
		}
		for _, run := range runs {
			if run.Annotations["chains.tekton.dev/signed"] != "true" {
				return fmt.Errorf("TaskRun %s is not signed: %v, %+v", run.Name, run.Annotations, run.Status.Conditions)
			}
		}
		return nil
	})
	return runs
}

// signatures are the different signatures that each run ever had. A second signature over
// the same content differs, because ECDSA uses random numbers.
type signatures struct {
	e  env
	mu sync.Mutex
	of map[string]map[string]bool
}

// watchSignatures watches all states of all runs of a namespace until the test ends.
func (e env) watchSignatures(namespace string) *signatures {
	e.t.Helper()
	s := &signatures{e: e, of: map[string]map[string]bool{}}
	list, err := cluster.Tekton.TektonV1().TaskRuns(namespace).List(e.t.Context(), metav1.ListOptions{})
	e.check(err)
	watcher, err := cluster.Tekton.TektonV1().TaskRuns(namespace).Watch(e.t.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	e.check(err)
	e.t.Cleanup(watcher.Stop)
	go func() {
		for change := range watcher.ResultChan() {
			if run, err := meta.Accessor(change.Object); err == nil {
				s.record(run)
			}
		}
	}()
	return s
}

func (s *signatures) record(run metav1.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, value := run.GetName(), run.GetAnnotations()["chains.tekton.dev/signature-taskrun-"+string(run.GetUID())]
	if s.of[name] == nil {
		s.of[name] = map[string]bool{}
	}
	if value != "" {
		s.of[name][value] = true
	}
}

// expectOneEach expects that the watch has seen n runs with one signature each.
func (s *signatures) expectOneEach(n int) {
	s.e.t.Helper()
	s.e.eventually(soon, func() error { // the watch may be a moment late
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.of) != n {
			return fmt.Errorf("the watch has seen %d runs, want %d", len(s.of), n)
		}
		for name, values := range s.of {
			if len(values) != 1 {
				return fmt.Errorf("TaskRun %s has had %d signatures, want 1", name, len(values))
			}
		}
		return nil
	})
}
