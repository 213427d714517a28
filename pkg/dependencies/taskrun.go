package dependencies

import (
	"context"
	"encoding/hex"
	"slices"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// TaskRun collects the Task and the StepActions behind a TaskRun.
func (c *Collector) TaskRun(ctx context.Context, tr *v1.TaskRun) []Item {
	items := c.taskRun(ctx, tr, Task)
	if tr.Spec.TaskSpec != nil {
		inline := item(Task, resource.Task, tr)
		inline.missing(&gap{policy.Inline, "the TaskRun carries its spec itself"})
		items = append([]Item{inline}, items...)
	}
	return items
}

// taskRun is the same for a TaskRun whose Task has that role. A spec that the
// TaskRun of a PipelineRun carries itself is the PipelineRun's matter.
func (c *Collector) taskRun(ctx context.Context, tr *v1.TaskRun, role Role) []Item {
	c = c.snapshot()
	r := run{Object: tr, owners: []types.UID{tr.UID}}
	for _, owner := range tr.OwnerReferences {
		r.owners = append(r.owners, owner.UID) // a PipelineRun asks for the Tasks of its TaskRuns
	}
	var items []Item
	var task *v1.Task
	switch ref := tr.Spec.TaskRef; {
	case tr.Spec.TaskSpec != nil:
		task = &v1.Task{ObjectMeta: tr.ObjectMeta, Spec: *tr.Spec.TaskSpec}
	case ref == nil:
		return nil // Tekton refuses it
	case ref.Resolver != "":
		var found Item
		found, task = c.resolvedTask(ctx, r, tr, role)
		items = append(items, found)
	default:
		var found Item
		found, task = c.localTask(ctx, r, tr, role)
		items = append(items, found)
	}
	if task == nil {
		return append(items, unknownSteps(items, tr)...)
	}
	items = append(items, c.stepActions(ctx, r, tr, task)...)
	if slices.ContainsFunc(items, unrecorded) {
		if missing := c.replaysTask(ctx, r, tr, task); missing != nil {
			for i := range items {
				if unrecorded(items[i]) {
					items[i].unproven(missing)
				}
			}
		}
	}
	return items
}

// unknownSteps stands for the StepActions of a Task of which no more than the
// checksum is left: the status of a run does not tell whether there were any.
func unknownSteps(items []Item, tr *v1.TaskRun) []Item {
	if items[0].Content == nil {
		return nil
	}
	unknown := item(StepAction, resource.StepAction, tr)
	unknown.Name, unknown.Verified = "", nil
	unknown.missing(unavailable("the Task of %s is gone, and with it which StepActions it referred to", tr.Name))
	return []Item{unknown}
}

// unrecorded says that the run's status does not pin the content: what is in
// the cluster now may have been put there later, ResolutionRequests too.
func unrecorded(i Item) bool {
	return i.Content != nil && (!i.Referenced || i.Role == StepAction || len(i.Source.Digest) == 0)
}

// unproven takes back what the cluster says now.
func (i *Item) unproven(missing *gap) {
	switch {
	case !i.Referenced:
		i.Source = v1.RefSource{URI: clusterURI(i.Kind, i.Namespace, i.Name, "")}
	case i.Role == StepAction:
		i.Source = v1.RefSource{}
	}
	i.missing(missing)
}

func item(role Role, kind resource.Kind, tr *v1.TaskRun) Item {
	return Item{
		Role: role, Kind: kind, Namespace: tr.Namespace, Name: tr.Name,
		Verified: tr.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified),
		NoMatch:  noMatch(tr.Status.Provenance),
	}
}

func noMatch(p *v1.Provenance) policy.Mode {
	if p == nil || p.FeatureFlags == nil {
		return policy.NoMatch("")
	}
	return policy.NoMatch(p.FeatureFlags.VerificationNoMatchPolicy)
}

func (c *Collector) resolvedTask(ctx context.Context, r run, tr *v1.TaskRun, role Role) (Item, *v1.Task) {
	found := item(role, resource.Task, tr)
	found.Referenced = true
	if tr.Status.Provenance == nil || tr.Status.Provenance.RefSource == nil {
		found.missing(unavailable("the run has recorded no source of its Task"))
		return found, nil
	}
	found.Source = *tr.Status.Provenance.RefSource
	resolver := string(tr.Spec.TaskRef.Resolver)
	res := c.fill(ctx, r, &found, taskRequestName(ctx, tr), resolver)
	if res == nil {
		return found, nil
	}
	task, missing := asTask(ctx, res.object)
	if missing != nil {
		found.missing(missing)
		return found, nil
	}
	return found, task
}

// fill takes in what a resolver returned for the run, or what is left of it.
func (c *Collector) fill(ctx context.Context, r run, found *Item, requestName, resolver string) *resolved {
	recorded := &found.Source
	if found.Role == StepAction {
		recorded = nil // Tekton's record of them is not reliable
	}
	res, missing := c.request(ctx, r, requestName, found.Kind, recorded)
	if missing == nil {
		found.Source = res.source
		found.Namespace, found.Name = res.object.GetNamespace(), res.object.GetName()
		if found.Content, missing = c.content(ctx, r, found.Kind, res, resolver); missing == nil {
			return res
		}
		found.missing(missing)
		return nil
	}
	if resolver == resolverCluster && recorded != nil {
		if namespace, name, ok := parseClusterURI(recorded.URI); ok {
			found.Namespace, found.Name = namespace, name
			var unsigned *gap
			if found.Content, unsigned = c.recordedContent(ctx, r, found.Kind, *recorded); unsigned == nil {
				return c.unchanged(ctx, found)
			}
			if unsigned.reason == policy.SignatureUnavailable {
				missing = unsigned
			}
		}
	}
	found.missing(missing)
	return nil
}

// unchanged is the object in the cluster if it is the one that was recorded.
func (c *Collector) unchanged(ctx context.Context, found *Item) *resolved {
	object, err := c.Objects.Object(found.Kind, found.Namespace, found.Name)
	if err != nil || object == nil || !hasChecksum(ctx, object, found.Content.Checksum) {
		return nil
	}
	return &resolved{object: object, source: found.Source}
}

// localTask takes the Task as it is in the cluster. That it is the one that ran
// is for the replay to show.
func (c *Collector) localTask(ctx context.Context, r run, tr *v1.TaskRun, role Role) (Item, *v1.Task) {
	found := item(role, resource.Task, tr)
	found.Name = tr.Spec.TaskRef.Name
	task, _ := c.live(ctx, r, &found).(*v1.Task)
	return found, task
}

// live fills an item in with the object in the cluster, and returns that; nil
// if there is none.
func (c *Collector) live(ctx context.Context, r run, found *Item) resource.Object {
	object, err := c.Objects.Object(found.Kind, found.Namespace, found.Name)
	if err != nil || object == nil {
		found.unproven(unavailable("%s %s/%s is not in the cluster any more", found.Kind, found.Namespace, found.Name))
		return nil
	}
	// Tekton may fetch it more than once for one run, and record what it found
	// last although it started what it found first.
	if !c.History.UnchangedSince(r.Object, object) {
		found.unproven(unavailable("%s %s/%s may have been written to after %s was created", found.Kind, found.Namespace, found.Name, r.GetName()))
		return nil
	}
	checksum, err := resource.Checksum(ctx, object)
	if err != nil {
		found.unproven(unavailable("%v", err))
		return nil
	}
	found.Source = v1.RefSource{
		URI:    clusterURI(found.Kind, found.Namespace, found.Name, object.GetUID()),
		Digest: map[string]string{sha256Digest: hex.EncodeToString(checksum)},
	}
	content, missing := c.signed(ctx, r, found.Kind, object, checksum)
	if missing != nil {
		found.unproven(missing)
		return object // to find what it refers to
	}
	found.Content = content
	return object
}

// stepActions are the StepActions that the Task refers to, each once.
func (c *Collector) stepActions(ctx context.Context, r run, tr *v1.TaskRun, task *v1.Task) []Item {
	var items []Item
	for i := range task.Spec.Steps {
		step := &task.Spec.Steps[i]
		if step.Ref == nil {
			continue
		}
		found := item(StepAction, resource.StepAction, tr)
		found.Name, found.Verified = step.Ref.Name, nil // Tekton does not verify StepActions
		if step.Ref.Resolver != "" {
			found.Referenced = true
			c.fill(ctx, r, &found, stepActionRequestName(ctx, tr, task.Spec, step), string(step.Ref.Resolver))
		} else {
			c.live(ctx, r, &found)
		}
		if !slices.ContainsFunc(items, found.same) {
			items = append(items, found)
		}
	}
	return items
}

// same compares contents, too: one StepAction may have changed between two
// steps that refer to it.
func (i *Item) same(other Item) bool { return equality.Semantic.DeepEqual(*i, other) }
