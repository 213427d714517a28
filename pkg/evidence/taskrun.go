package evidence

import (
	"context"
	"encoding/hex"
	"slices"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/verify"
)

// TaskRun collects the Task and the StepActions behind a TaskRun.
func (c *Collector) TaskRun(ctx context.Context, tr *v1.TaskRun) []Item {
	items := c.taskRun(ctx, tr, nil)
	if tr.Spec.TaskSpec != nil {
		inline := item(Task, resource.Task, tr)
		inline.missing(&gap{verify.Inline, "the TaskRun carries its spec itself"})
		items = append([]Item{inline}, items...)
	}
	return items
}

// taskRun is the same for a TaskRun of a PipelineRun, unless parent is nil. A
// spec that the TaskRun carries itself is the PipelineRun's matter.
func (c *Collector) taskRun(ctx context.Context, tr *v1.TaskRun, parent *v1.PipelineRun) []Item {
	r := run{namespace: tr.Namespace, owners: []types.UID{tr.UID}, annotations: tr.Annotations}
	for _, owner := range tr.OwnerReferences {
		r.owners = append(r.owners, owner.UID) // a PipelineRun asks for the Tasks of its TaskRuns
	}
	role := Task
	if parent != nil {
		role = PipelineTask
	}
	var items []Item
	var task *v1.Task
	var local bool
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
		items, local = append(items, found), true
	}
	if task == nil {
		return items
	}
	steps := c.stepActions(ctx, r, tr, task)
	if local || slices.ContainsFunc(steps, isLocal) {
		if missing := c.replaysTask(ctx, r, tr, task); missing != nil {
			if local {
				items[0].unproven(missing)
			}
			for i := range steps {
				if isLocal(steps[i]) && steps[i].Content != nil {
					steps[i].unproven(missing)
				}
			}
		}
	}
	return append(items, steps...)
}

func isLocal(i Item) bool { return !i.Referenced }

// unproven takes back what was taken from the live object.
func (i *Item) unproven(missing *gap) {
	i.Source = v1.RefSource{URI: clusterURI(i.Kind, i.Namespace, i.Name, "")}
	i.missing(missing)
}

func item(role Role, kind resource.Kind, tr *v1.TaskRun) Item {
	return Item{
		Role: role, Kind: kind, Namespace: tr.Namespace, Name: tr.Name,
		Verified: tr.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified),
		NoMatch:  noMatch(tr.Status.Provenance),
	}
}

func noMatch(p *v1.Provenance) verify.Mode {
	if p == nil || p.FeatureFlags == nil {
		return verify.NoMatch("")
	}
	return verify.NoMatch(p.FeatureFlags.VerificationNoMatchPolicy)
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
	res, missing := c.request(ctx, r, requestName, recorded)
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
			if found.Content = c.recordedContent(ctx, r, found.Kind, *recorded); found.Content != nil {
				return nil
			}
		}
	}
	found.missing(missing)
	return nil
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
	checksum, err := resource.Checksum(ctx, object)
	if err != nil {
		found.unproven(unavailable("%v", err))
		return nil
	}
	found.Source = v1.RefSource{
		URI:    clusterURI(found.Kind, found.Namespace, found.Name, object.GetUID()),
		Digest: map[string]string{sha256Digest: hex.EncodeToString(checksum)},
	}
	found.Content = &Content{Checksum: checksum, Signatures: c.candidates(ctx, r, found.Kind, object, checksum)}
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

func (i *Item) same(other Item) bool {
	return i.Kind == other.Kind && i.Namespace == other.Namespace && i.Name == other.Name && i.Source.URI == other.Source.URI &&
		i.Source.EntryPoint == other.Source.EntryPoint
}
