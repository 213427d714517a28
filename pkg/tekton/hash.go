// SPDX-License-Identifier: Apache-2.0

package tekton

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// hash returns the checksum in a dialect other than Newest.
func (d Dialect) hash(resource Object) ([]byte, error) {
	switch r := resource.(type) {
	case *v1.Task:
		return hashIn(d, v1.Task{TypeMeta: typeMeta("v1", "Task"), ObjectMeta: hashedMeta(r), Spec: r.Spec})
	case *v1.Pipeline:
		return hashIn(d, v1.Pipeline{TypeMeta: typeMeta("v1", "Pipeline"), ObjectMeta: hashedMeta(r), Spec: r.Spec})
	case *v1beta1.StepAction:
		return hashIn(d, v1beta1.StepAction{TypeMeta: typeMeta("v1beta1", "StepAction"), ObjectMeta: hashedMeta(r), Spec: r.Spec})
	case *betaTask:
		return hashIn(d, betaTask{TypeMeta: typeMeta("v1beta1", "Task"), ObjectMeta: hashedMeta(r), Spec: r.Spec})
	case *betaPipeline:
		return hashIn(d, betaPipeline{TypeMeta: typeMeta("v1beta1", "Pipeline"), ObjectMeta: hashedMeta(r), Spec: r.Spec})
	}
	return nil, fmt.Errorf("a %T has no checksum in the dialect of %s", resource, d)
}

func typeMeta(version, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: "tekton.dev/" + version, Kind: kind}
}

// hashedMeta returns the metadata that Tekton hashes, as PrepareObjectMeta does in
// pkg/apis/pipeline/internal/checksum of tektoncd/pipeline, which cannot be imported.
func hashedMeta(from metav1.Object) metav1.ObjectMeta {
	annotations := maps.Clone(from.GetAnnotations())
	for _, key := range []string{"kubectl-client-side-apply", corev1.LastAppliedConfigAnnotation, trustedresources.SignatureAnnotation} {
		delete(annotations, key)
	}
	return metav1.ObjectMeta{
		Name: from.GetName(), GenerateName: from.GetGenerateName(), Namespace: from.GetNamespace(),
		Labels: from.GetLabels(), Annotations: annotations,
	}
}

// attempts to find a text that is not in the resource. One fails by chance once in
// 10^11 times.
const attempts = 3

var errNoMarker = errors.New("the resource contains each text that was chosen at random")

// hashIn hashes the JSON of a resource in a dialect. The types of this program omit
// fields that have no value. So these fields get a marker, a text that is not in the
// resource, which is replaced in the JSON.
func hashIn[T any](d Dialect, resource T) ([]byte, error) {
	for range attempts {
		marker, err := randomTime()
		if err != nil {
			return nil, err
		}
		m := marked{dialect: d, time: marker}
		m.visit(reflect.ValueOf(&resource))
		text, err := json.Marshal(resource)
		m.undo()
		if err != nil {
			return nil, fmt.Errorf("the JSON of a %T: %w", resource, err)
		}
		if sum, ok := m.hash(text); ok {
			return sum, nil
		}
	}
	return nil, errNoMarker
}

// lastSecond is the last one that RFC 3339 can express.
var lastSecond = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).Unix()

func randomTime() (metav1.Time, error) {
	seconds, err := rand.Int(rand.Reader, big.NewInt(lastSecond))
	if err != nil {
		return metav1.Time{}, err
	}
	return metav1.Unix(1+seconds.Int64(), 0), nil
}
