// SPDX-License-Identifier: Apache-2.0

package tektonreleases

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"
)

// Random returns the JSON of random Tasks, Pipelines and StepActions, the same for the
// same seed. Every field of the types in go.mod is set in some of them.
func Random(seed int64, count int) ([][]byte, error) {
	source := rand.New(rand.NewSource(seed)) // #nosec G404 -- no secret
	filler := randfill.New().RandSource(source).NilChance(.4).NumElements(0, 2).Funcs(funcs()...)
	lines := make([][]byte, 0, count)
	for i := range count {
		line, err := json.Marshal(randomResource(filler, i))
		if err != nil {
			return nil, fmt.Errorf("random resource %d: %w", i, err)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// randomResource returns resources of all types that Tekton verifies in turn.
func randomResource(filler *randfill.Filler, i int) any {
	var made struct {
		task        v1.Task
		pipeline    v1.Pipeline
		stepAction  v1beta1.StepAction
		oldTask     v1beta1.Task     //nolint:staticcheck // Tekton still accepts it from resolvers
		oldPipeline v1beta1.Pipeline //nolint:staticcheck // see above
	}
	switch i % 8 {
	case 0:
		filler.Fill(&made.stepAction)
		made.stepAction.TypeMeta = metav1.TypeMeta{APIVersion: "tekton.dev/v1beta1", Kind: "StepAction"}
		return made.stepAction
	case 1:
		filler.Fill(&made.oldTask)
		made.oldTask.TypeMeta = metav1.TypeMeta{APIVersion: "tekton.dev/v1beta1", Kind: "Task"}
		return made.oldTask
	case 2:
		filler.Fill(&made.oldPipeline)
		made.oldPipeline.TypeMeta = metav1.TypeMeta{APIVersion: "tekton.dev/v1beta1", Kind: "Pipeline"}
		return made.oldPipeline
	case 3, 4, 5:
		filler.Fill(&made.pipeline)
		made.pipeline.TypeMeta = metav1.TypeMeta{APIVersion: "tekton.dev/v1", Kind: "Pipeline"}
		return made.pipeline
	default:
		filler.Fill(&made.task)
		made.task.TypeMeta = metav1.TypeMeta{APIVersion: "tekton.dev/v1", Kind: "Task"}
		return made.task
	}
}

// funcs fill the types whose JSON must not be arbitrary.
func funcs() []any {
	return []any{
		func(s *string, c randfill.Continue) { *s = text(c) },
		func(t *metav1.Time, c randfill.Continue) {
			if c.Intn(4) == 0 { // metadata within a spec may have a time
				*t = metav1.Unix(1+c.Int63n(1<<32), 0)
			}
		},
		func(d *metav1.Duration, c randfill.Continue) { d.Duration = time.Duration(c.Int63n(1 << 45)) },
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewMilliQuantity(c.Int63n(1<<40), resource.DecimalSI)
		},
		func(i *intstr.IntOrString, c randfill.Continue) {
			*i = intstr.FromInt32(c.Int31())
			if c.Bool() {
				*i = intstr.FromString(text(c))
			}
		},
		func(raw *runtime.RawExtension, c randfill.Continue) {
			raw.Raw = fmt.Appendf(nil, `{"a":%d,"metadata":{"creationTimestamp":%s},"html":"<&>"}`, c.Int31(), []string{"null", `"2026-01-01T00:00:00Z"`}[c.Intn(2)])
		},
		func(p **v1.PipelineSpec, c randfill.Continue) { fillSometimes(p, c) },
		func(p **v1beta1.PipelineSpec, c randfill.Continue) { fillSometimes(p, c) },
		func(f *metav1.FieldsV1, _ randfill.Continue) { f.SetRawBytes([]byte("{}")) },
		func(p *v1.ParamValue, c randfill.Continue) {
			fillParam(&p.StringVal, &p.ArrayVal, &p.ObjectVal, (*string)(&p.Type), c)
		},
		func(p *v1beta1.ParamValue, c randfill.Continue) {
			fillParam(&p.StringVal, &p.ArrayVal, &p.ObjectVal, (*string)(&p.Type), c)
		},
	}
}

// fillSometimes bounds the depth of Pipelines within Pipelines.
func fillSometimes[T any](p **T, c randfill.Continue) {
	if c.Intn(8) == 0 {
		*p = new(T)
		c.Fill(*p)
	}
}

func fillParam(value *string, array *[]string, object *map[string]string, kind *string, c randfill.Continue) {
	switch c.Intn(3) {
	case 0:
		*kind, *value = string(v1.ParamTypeString), text(c)
	case 1:
		*kind, *array = string(v1.ParamTypeArray), []string{text(c), text(c)}
	default:
		*kind, *object = string(v1.ParamTypeObject), map[string]string{text(c): text(c)}
	}
}

// texts are strings that JSON escapes, that look like JSON, and that defaults depend on.
var texts = []string{
	"", "Task", "Pipeline", "string", "array", "object", "cluster", "git", `"creationTimestamp":null`, "\"creationTimestamp\":\"2026-01-01T00:00:00Z\"",
	"<script>&amp;</script>", "ä€😀", "\u2028", "\x00\x1f\\", "[]", "{}", "null", "$(params.a)", "1", " a\nb\t",
}

func text(c randfill.Continue) string {
	if c.Bool() {
		return texts[c.Intn(len(texts))]
	}
	return c.String(8)
}
