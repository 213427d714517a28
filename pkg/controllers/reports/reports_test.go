// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	"github.com/openreports/reports-api/pkg/client/clientset/versioned/fake"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/metadata"
	metadatafake "k8s.io/client-go/metadata/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// facts keeps the facts that were emitted.
type facts struct {
	mu  sync.Mutex
	all []observe.Fact
}

func (f *facts) Emit(_ context.Context, fact observe.Fact) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, fact)
}

// countOf returns how many facts of a type there are.
func countOf[T observe.Fact](f *facts) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fact := range f.all {
		if _, is := fact.(T); is {
			n++
		}
	}
	return n
}

// running is a Writer that works on a fake API server.
type running struct {
	*Writer

	t      *testing.T
	facts  *facts
	client *fake.Clientset
	writes map[string][]time.Time // by namespace
}

// startWriter starts an enabled Writer. It is called in a bubble of synctest.
func startWriter(t *testing.T, existing ...*openreports.Report) *running {
	t.Helper()
	r := &running{t: t, facts: &facts{}, client: newClient(existing), writes: map[string][]time.Time{}}
	for _, verb := range []string{"create", "update", "delete"} {
		r.client.PrependReactor(verb, "reports", func(a k8stesting.Action) (bool, apiruntime.Object, error) {
			r.writes[a.GetNamespace()] = append(r.writes[a.GetNamespace()], time.Now())
			return false, nil, nil
		})
	}
	r.Writer = New(Inputs{
		Client: r.client.OpenreportsV1alpha1(), Metadata: metadataOf(t, existing), Owner: "tekton-chains", Emitter: r.facts,
		About: func(context.Context) *corev1.ObjectReference { return &corev1.ObjectReference{Name: "chains-config"} },
	})
	r.Configure(true)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		r.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() { stop(); <-ended })
	return r
}

// newClient returns a client with objects. The module has no schema, which NewClientset needs.
func newClient(existing []*openreports.Report) *fake.Clientset {
	objects := make([]apiruntime.Object, 0, len(existing))
	for _, report := range existing {
		objects = append(objects, report)
	}
	return fake.NewSimpleClientset(objects...)
}

func metadataOf(t *testing.T, existing []*openreports.Report) metadata.Interface {
	t.Helper()
	scheme := apiruntime.NewScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	partial := make([]apiruntime.Object, 0, len(existing))
	for _, report := range existing {
		partial = append(partial, &metav1.PartialObjectMetadata{
			TypeMeta: metav1.TypeMeta{APIVersion: openreports.GroupVersion.String(), Kind: "Report"}, ObjectMeta: report.ObjectMeta,
		})
	}
	return metadatafake.NewSimpleMetadataClient(scheme, partial...)
}

// after lets time go by.
func (r *running) after(d time.Duration) {
	<-time.After(d) // in the time of the bubble
	synctest.Wait()
}

func (r *running) report(namespace string) *openreports.Report {
	r.t.Helper()
	report, err := r.client.OpenreportsV1alpha1().Reports(namespace).Get(r.t.Context(), "trusted-resources-task", metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return report
}

func (r *running) fact(namespace, name string, o observe.PolicyOutcome) {
	v := verified(name, o)
	v.Run.Namespace = namespace
	r.Add(r.t.Context(), v)
}

func TestWriter_WritesANamespaceOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tasks = 400 // fit into one Report
		r := startWriter(t)
		for i := range 10 * 60 {
			r.fact("prod", fmt.Sprint("task-", i%tasks), fails1)
			r.after(time.Second)
		}
		writes := r.writes["prod"]
		if len(writes) != 10 {
			t.Errorf("%d writes in ten minutes, want 10", len(writes))
		}
		for i := 1; i < len(writes); i++ {
			if gap := writes[i].Sub(writes[i-1]); gap < time.Minute {
				t.Errorf("%v between two writes", gap)
			}
		}
		r.after(2 * time.Minute)
		if n := r.report("prod").Summary.Fail; n != tasks {
			t.Errorf("%d results, want %d", n, tasks)
		}
		// Another namespace does not wait.
		r.fact("other", "a", fails1)
		r.after(3 * time.Second)
		if r.report("other").Summary.Fail != 1 {
			t.Errorf("got %+v", r.report("other").Summary)
		}
	})
}

// A new process, or another replica, adds to what the Report has.
func TestWriter_KeepsWhatAnEarlierProcessWrote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := merged(t, nil, time.Now(), verified("a", passes1), verified("b", fails1))[0]
		r := startWriter(t, before)
		r.fact("prod", "c", fails1)
		r.fact("prod", "a", passes1)
		r.after(3 * time.Second)
		if s := r.report("prod").Summary; s.Pass != 1 || s.Fail != 2 {
			t.Errorf("the summary is %+v", s)
		}
		// Nothing new: nothing is written.
		r.after(2 * time.Minute)
		writes := len(r.writes["prod"])
		r.fact("prod", "a", passes1)
		r.after(2 * time.Minute)
		if len(r.writes["prod"]) != writes {
			t.Error("an unchanged Report was written")
		}
	})
}

func TestWriter_LeavesReportsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		foreign := &openreports.Report{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "trusted-resources-task"}, Source: "kyverno"}
		r := startWriter(t, foreign)
		r.fact("prod", "a", fails1)
		r.after(5 * time.Minute)
		if len(r.writes["prod"]) > 0 || r.report("prod").Source != "kyverno" {
			t.Errorf("the Report was written: %+v", r.report("prod"))
		}
		if n := countOf[observe.ReportFailed](r.facts); n != 1 {
			t.Errorf("%d failures were reported, want 1", n)
		}
	})
}

// errMissing is what a client makes of the answer of an API server without the type.
var errMissing = apierrors.NewGenericServerResponse(http.StatusNotFound, "get", openreports.Resource("reports"), "trusted-resources-task", "404 page not found", 0, true)

// Whatever the API server lacks, it is asked once a minute for all namespaces, an
// administrator reads it once, and the verdicts are written afterwards.
func TestWriter_WaitsForTheTypeAndTheRights(t *testing.T) {
	for name, refused := range map[string]error{
		"no definition": errMissing,
		"no rights":     apierrors.NewForbidden(openreports.Resource("reports"), "trusted-resources-task", errors.New("no")),
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { expectWaiting(t, refused) }) })
	}
}

// expectWaiting lets the API server answer with an error for a while.
func expectWaiting(t *testing.T, refused error) {
	t.Helper()
	r := startWriter(t)
	var asked atomic.Int32
	var answers atomic.Bool
	r.client.PrependReactor("get", "reports", func(k8stesting.Action) (bool, apiruntime.Object, error) {
		asked.Add(1)
		return !answers.Load(), nil, refused
	})
	for i := range 100 {
		r.fact(fmt.Sprint("ns-", i), "a", fails1)
	}
	r.after(10 * time.Minute)
	if n := asked.Load(); n > 11*workers {
		t.Errorf("the API server was asked %d times in ten minutes", n)
	}
	if n := r.explanations(); n != 1 {
		t.Errorf("the problem was explained %d times, want once", n)
	}
	answers.Store(true)
	r.after(3 * time.Minute)
	for i := range 100 {
		if r.report(fmt.Sprint("ns-", i)).Summary.Fail != 1 {
			t.Fatalf("namespace %d has no Report", i)
		}
	}
	if n := countOf[observe.ReportsResumed](r.facts); n != 1 {
		t.Errorf("%d facts say that Reports are written again, want 1", n)
	}
}

// explanations counts the Events about a refusal.
func (r *running) explanations() (n int) {
	r.facts.mu.Lock()
	defer r.facts.mu.Unlock()
	for _, fact := range r.facts.all {
		if refused, is := fact.(observe.ReportsRefused); is && refused.ConfigMap != nil {
			n++
		}
	}
	return n
}

// A namespace that is being deleted, or in which a quota forbids Reports, does not concern
// the others.
func TestWriter_FailsInOneNamespaceOnly(t *testing.T) {
	ending := apierrors.NewForbidden(openreports.Resource("reports"), "", errors.New("it is being terminated"))
	ending.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	for name, tc := range map[string]struct {
		err      error
		failures int
	}{
		"is being deleted":             {ending, 0},
		"is gone":                      {apierrors.NewNotFound(corev1.Resource("namespaces"), "bad"), 0},
		"Report was deleted meanwhile": {apierrors.NewNotFound(openreports.Resource("reports"), "trusted-resources-task"), 5},
		"quota":                        {apierrors.NewForbidden(openreports.Resource("reports"), "", errors.New("exceeded quota")), 5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := startWriter(t)
				r.client.PrependReactor("create", "reports", func(a k8stesting.Action) (bool, apiruntime.Object, error) {
					return a.GetNamespace() == "bad", nil, tc.err
				})
				r.fact("bad", "a", fails1)
				r.fact("good", "a", fails1)
				r.after(5 * time.Minute)
				if r.report("good").Summary.Fail != 1 {
					t.Error("the other namespace has no Report")
				}
				if n := countOf[observe.ReportFailed](r.facts); n != tc.failures || r.explanations() > 0 {
					t.Errorf("%d failures were reported, want %d; %d refusals, want none", n, tc.failures, r.explanations())
				}
			})
		})
	}
}

func TestWriter_DeletesItsReportsWhenTurnedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours := merged(t, nil, time.Now(), verified("a", fails1))[0]
		foreign := &openreports.Report{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "other"}}
		copied := &openreports.Report{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "copied", Labels: ours.Labels}}
		another := ours.DeepCopy()
		another.Namespace, another.Labels = "elsewhere", map[string]string{v1alpha1.ReportsLabel: "another-controller"}
		r := startWriter(t, ours, foreign, copied, another)
		r.Configure(false)
		r.after(time.Second)
		left, err := r.Metadata.Resource(reportsResource).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(left.Items) != 3 {
			t.Errorf("%d Reports are left, want the three of others", len(left.Items))
		}
		r.fact("prod", "b", fails1)
		r.after(time.Hour)
		if len(r.writes) > 0 {
			t.Error("a verdict was reported while reports are turned off")
		}
	})
}

// Verdicts that wait take little memory, whatever happens.
func TestWriter_BoundsItsMemory(t *testing.T) {
	const mib = 1 << 20
	heap := func() float64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return float64(stats.HeapAlloc)
	}
	emitted := &facts{}
	w := New(Inputs{Emitter: emitted})
	defer w.queue.ShutDown()
	w.Configure(true)
	before := heap()
	for i := range 100_000 {
		v := verified(fmt.Sprint("task-", i), fails1)
		v.Run.Namespace = fmt.Sprint("ns-", i%5000)
		w.Add(t.Context(), v)
	}
	dropped := countOf[observe.VerdictNotReported](emitted)
	emitted.all = nil
	if grown := heap() - before; grown > 16*mib {
		t.Errorf("%.0f MiB for the verdicts that wait", grown/mib)
	}
	if dropped == 0 || dropped > 99_000 {
		t.Errorf("%d of 100,000 verdicts were dropped", dropped)
	}
	for i := range 5000 {
		for range 2 {
			w.take(fmt.Sprint("ns-", i))
		}
	}
	if w.pending.size != 0 || len(w.pending.batches) != 0 {
		t.Errorf("%d bytes and %d namespaces are left", w.pending.size, len(w.pending.batches))
	}
}
