// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

var reportsResource = openreports.Resource("reports").WithVersion(openreports.GroupVersion.Version)

// namePrefix begins the names of Reports.
const namePrefix = "trusted-resources-"

// nameOf returns the name of a shard: "trusted-resources-task", "trusted-resources-task-2".
func nameOf(kind resource.Kind, shard int) string {
	name := namePrefix + kind.ConfigName()
	if shard == 0 {
		return name
	}
	return name + "-" + strconv.Itoa(shard+1)
}

// write merges verdicts into the Reports of a namespace. Another replica may write at the same
// time.
func (w *Writer) write(ctx context.Context, namespace string, kind resource.Kind, verdicts map[resourceID]verdict) error {
	return retry.OnError(retry.DefaultBackoff, func(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }, func() error {
		shards, err := w.shards(ctx, namespace, kind)
		if err != nil {
			return err
		}
		c := contentOf(shards, time.Now())
		c.add(verdicts)
		for i := range c.shards {
			var before *openreports.Report
			if i < len(shards) {
				before = shards[i]
			}
			if err := w.put(ctx, before, w.reportOf(c, namespace, kind, i)); err != nil {
				return fmt.Errorf("writing Report %s/%s: %w", namespace, nameOf(kind, i), err)
			}
		}
		for _, stale := range slices.Backward(shards[min(len(c.shards), len(shards)):]) {
			if err := w.remove(ctx, stale); err != nil {
				return fmt.Errorf("deleting Report %s/%s: %w", namespace, stale.Name, err)
			}
		}
		return nil
	})
}

// errForeign means that somebody else has a Report with the name of one of ours.
var errForeign = errors.New("somebody else wrote this Report: delete or rename the Report, so that the controller can write its own")

// refusal means that the API server takes no Reports, whatever the namespace.
type refusal struct{ error }

func (e refusal) Unwrap() error { return e.error }

// shards returns the Reports of a namespace about one kind.
func (w *Writer) shards(ctx context.Context, namespace string, kind resource.Kind) ([]*openreports.Report, error) {
	var found []*openreports.Report
	for i := range maxShards {
		report, err := w.Client.Reports(namespace).Get(ctx, nameOf(kind, i), metav1.GetOptions{})
		switch {
		case isNotInstalled(err):
			return nil, refusal{errors.New("the CustomResourceDefinition reports.openreports.io is not installed; install OpenReports, or set trustedresources.reports to \"none\"")}
		case apierrors.IsNotFound(err):
			return found, nil
		case apierrors.IsForbidden(err):
			return nil, refusal{explained(err)}
		case err != nil:
			return nil, fmt.Errorf("reading Report %s/%s: %w", namespace, nameOf(kind, i), err)
		case report.Labels[v1alpha1.ReportsLabel] != w.Owner:
			return nil, fmt.Errorf("reading Report %s/%s: %w", namespace, report.Name, errForeign)
		}
		found = append(found, report)
	}
	return found, nil
}

// isNotInstalled reports whether the API server does not know the type. Then its answer is no
// object of the kind Status.
func isNotInstalled(err error) bool {
	return apierrors.IsNotFound(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// explained returns an error that says what to do next.
func explained(err error) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("%w; apply config/reports", err)
	}
	return err
}

// reportOf returns a whole Report: what others have added is removed.
func (w *Writer) reportOf(c *content, namespace string, kind resource.Kind, shard int) *openreports.Report {
	report := &openreports.Report{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: nameOf(kind, shard), Labels: map[string]string{v1alpha1.ReportsLabel: w.Owner},
		},
		Source:        source,
		Configuration: &openreports.ReportConfiguration{Limits: openreports.Limits{MaxResults: maxResults, StatusFilter: reported}},
		Summary:       c.summary(shard), Results: c.results(shard),
	}
	if shard == 0 {
		report.Annotations = map[string]string{v1alpha1.ReportPassedAnnotation: c.passed.encode()}
	}
	return report
}

// reported are the results that a Report has.
var reported = []openreports.StatusFilter{
	openreports.StatusFilter(fail), openreports.StatusFilter(warn), openreports.StatusFilter(failure), openreports.StatusFilter(skip),
}

// put creates a Report, or replaces it if it has changed.
func (w *Writer) put(ctx context.Context, before, report *openreports.Report) (err error) {
	client := w.Client.Reports(report.Namespace)
	switch {
	case before == nil:
		_, err = client.Create(ctx, report, metav1.CreateOptions{FieldManager: v1alpha1.Group})
	case same(before, report):
		return nil
	default:
		report.ResourceVersion = before.ResourceVersion
		_, err = client.Update(ctx, report, metav1.UpdateOptions{FieldManager: v1alpha1.Group})
	}
	if err == nil {
		w.Emitter.Emit(ctx, observe.ReportWritten{})
	}
	return err
}

func same(a, b *openreports.Report) bool {
	return maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations) && len(a.OwnerReferences)+len(a.Finalizers) == 0 &&
		a.Source == b.Source && a.Summary == b.Summary && a.Scope == nil && a.ScopeSelector == nil &&
		equality.Semantic.DeepEqual(a.Configuration, b.Configuration) && equality.Semantic.DeepEqual(a.Results, b.Results)
}

// remove deletes a Report in the state in which it was read.
func (w *Writer) remove(ctx context.Context, report metav1.Object) error {
	uid, version := report.GetUID(), report.GetResourceVersion()
	err := w.Metadata.Resource(reportsResource).Namespace(report.GetNamespace()).
		Delete(ctx, report.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		w.Emitter.Emit(ctx, observe.ReportWritten{})
	}
	return err
}

// conclude says what became of a write, and keeps verdicts that a later write can report.
func (w *Writer) conclude(ctx context.Context, namespace string, kind resource.Kind, verdicts map[resourceID]verdict, err error) {
	if err == nil {
		if w.setRefused(nil) {
			w.Emitter.Emit(ctx, observe.ReportsResumed{ConfigMap: w.About(ctx)})
		}
		return
	}
	if ends(err) {
		return
	}
	if lasting := apierrors.IsInvalid(err) || apierrors.IsRequestEntityTooLargeError(err) || errors.Is(err, errForeign); !lasting {
		w.giveBack(namespace, kind, verdicts)
	}
	if !errors.As(err, new(refusal)) {
		w.Emitter.Emit(ctx, observe.ReportFailed{Namespace: namespace, Err: explained(err)})
		return
	}
	fact := observe.ReportsRefused{Err: err}
	if w.setRefused(err) {
		fact.ConfigMap = w.About(ctx)
	}
	w.Emitter.Emit(ctx, fact)
}

// ends reports whether a write failed because the namespace is being deleted, or is gone.
func ends(err error) bool {
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return true
	}
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details != nil && details.Kind == "namespaces"
}

// setRefused remembers that the API server takes no Reports, or, with nil, that it does. It
// returns whether that is news.
func (w *Writer) setRefused(err error) (news bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.refused
	if err == nil {
		w.refused, w.resume = "", time.Time{}
		return before != ""
	}
	w.refused, w.resume = kindOfRefusal(err), time.Now().Add(interval)
	return before != w.refused
}

// kindOfRefusal is the same for all namespaces.
func kindOfRefusal(err error) string {
	if apierrors.IsForbidden(err) {
		return "forbidden"
	}
	return "not installed"
}

// pageSize is the number of Reports in one answer of the API server. Each can have an
// annotation of maxPassedText.
const pageSize = 50

// deleteAll deletes the Reports of this controller. If it fails, it is tried again after the interval.
func (w *Writer) deleteAll(ctx context.Context) {
	w.writing.Lock()
	defer w.writing.Unlock()
	if w.isEnabled() {
		return
	}
	namespaces := w.Scope
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	for _, namespace := range namespaces {
		if err := w.deleteIn(ctx, namespace); err != nil && !apierrors.IsNotFound(err) {
			w.Emitter.Emit(ctx, observe.ReportsNotDeleted{Err: explained(err)})
			if !apierrors.IsForbidden(err) {
				w.queue.AddAfter(everywhere, interval)
			}
			return
		}
	}
}

func (w *Writer) isEnabled() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.enabled
}

func (w *Writer) deleteIn(ctx context.Context, namespace string) error {
	client := w.Metadata.Resource(reportsResource).Namespace(namespace)
	options := metav1.ListOptions{LabelSelector: v1alpha1.ReportsLabel + "=" + w.Owner, Limit: pageSize}
	for {
		page, err := client.List(ctx, options)
		if err != nil {
			return err
		}
		for i := range page.Items {
			if !strings.HasPrefix(page.Items[i].Name, namePrefix) {
				continue // somebody copied the label
			}
			if err := w.remove(ctx, &page.Items[i]); err != nil {
				return err
			}
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return nil
		}
	}
}
