package resources

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"knative.dev/pkg/controller"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// The last row of the design's table: what is left alone whatever is on it.
func TestEligible(t *testing.T) {
	now := metav1.Now()
	optedIn := map[string]string{config.NamespaceLabel: "true"}
	for name, tc := range map[string]struct {
		settings map[string]string
		deleted  *metav1.Time
		labels   map[string]string
		gone     bool
		want     bool
	}{
		"selected":                     {map[string]string{"artifacts.task.signer": "x509"}, nil, optedIn, false, true},
		"signer none":                  {map[string]string{"artifacts.task.signer": "none"}, nil, optedIn, false, false},
		"no signer set":                {nil, nil, optedIn, false, false},
		"signer of another kind":       {map[string]string{"artifacts.pipeline.signer": "x509"}, nil, optedIn, false, false},
		"being deleted":                {map[string]string{"artifacts.task.signer": "x509"}, &now, optedIn, false, false},
		"not selected":                 {map[string]string{"artifacts.task.signer": "x509"}, nil, nil, false, false},
		"namespace unknown or leaving": {map[string]string{"artifacts.task.signer": "x509"}, nil, optedIn, true, false},
		"all namespaces":               {map[string]string{"artifacts.task.signer": "x509", "trustedresources.namespaces": "all"}, nil, nil, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := config.Parse(tc.settings)
			if err != nil {
				t.Fatal(err)
			}
			r := &base{
				kind:       resource.Task,
				config:     func() *config.Config { return cfg },
				namespaces: func(string) (map[string]string, bool) { return tc.labels, !tc.gone },
			}
			if got := r.eligible(&v1.Task{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: tc.deleted}}); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// Each kind of error has one consequence for the work queue.
func TestConclude(t *testing.T) {
	gr := schema.GroupResource{Group: "tekton.dev", Resource: "tasks"}
	for name, tc := range map[string]struct {
		err   error
		retry bool
	}{
		"conflict":      {apierrors.NewConflict(gr, "t", errors.New("newer")), false},
		"deleted":       {apierrors.NewNotFound(gr, "t"), false},
		"no key":        {fmt.Errorf("x: %w", keys.ErrNoKey), false},
		"old Tekton":    {fmt.Errorf("x: %w", errRelease), false},
		"undecided":     {fmt.Errorf("x: %w", decision.ErrUndecided), true},
		"signer failed": {fmt.Errorf("x: %w", keys.ErrSigner), true},
		"forbidden":     {apierrors.NewForbidden(gr, "t", errors.New("no")), true},
		"server away":   {apierrors.NewServiceUnavailable("away"), true},
		"not stored, for want of a service account": {fmt.Errorf("%w: %w", errStoring, apierrors.NewNotFound(gr, "sa")), true},
		"not stored": {fmt.Errorf("%w: x", errStoring), true},
		"time is up": {context.DeadlineExceeded, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newTestReconciler(t)
			got := r.conclude(t.Context(), "ns/t", &v1.Task{}, tc.err)
			if retry := !controller.IsSkipKey(got); retry != tc.retry {
				t.Errorf("tried again: %v, want %v (%v)", retry, tc.retry, got)
			}
		})
	}
	busy := fmt.Errorf("%w: %w", errStoring, &registry.BusyError{Status: 429, After: time.Hour})
	if again, after := controller.IsRequeueKey(newTestReconciler(t).conclude(t.Context(), "ns/t", &v1.Task{}, busy)); !again || after != time.Hour {
		t.Errorf("a registry that is busy for an hour: tried again %v, after %v", again, after)
	}
	after := controller.NewRequeueAfter(time.Second)
	if got := newTestReconciler(t).conclude(t.Context(), "ns/t", &v1.Task{}, after); !errors.Is(got, after) {
		t.Errorf("a delay became %v", got)
	}
}

func newTestReconciler(t *testing.T) *Reconciler {
	t.Helper()
	recorder, err := observe.NewMetrics()
	if err != nil {
		t.Fatal(err)
	}
	return &Reconciler{base: &base{
		kind: resource.Task, metrics: recorder, events: silent{}, config: config.Default, invalidate: func(string) {},
	}}
}

type silent struct{}

func (silent) Record(context.Context, *corev1.ObjectReference, observe.Event) {}
