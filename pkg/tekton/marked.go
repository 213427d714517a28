// SPDX-License-Identifier: Apache-2.0

package tekton

import (
	"bytes"
	"crypto/sha256"
	"reflect"
	"time"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// marked are the fields of a resource that have a marker.
type marked struct {
	dialect    Dialect
	time       metav1.Time // the marker
	timestamps []*metav1.Time
	names      []*string
}

func (m *marked) text() string { return m.time.UTC().Format(time.RFC3339) }

func (m *marked) undo() {
	for _, timestamp := range m.timestamps {
		*timestamp = metav1.Time{}
	}
	for _, name := range m.names {
		*name = ""
	}
}

// hash hashes the JSON with what the releases of the dialect write in place of the
// marker. ok is false if the resource itself has this text.
func (m *marked) hash(text []byte) (sum []byte, ok bool) {
	marker := []byte(`"` + m.text() + `"`) // needs no escapes in JSON
	hash, found := sha256.New(), 0
	for {
		before, after, more := bytes.Cut(text, marker)
		_, _ = hash.Write(before) // never fails
		if !more {
			return hash.Sum(nil), found == len(m.timestamps)+len(m.names)
		}
		if bytes.HasSuffix(before, []byte(`"creationTimestamp":`)) {
			_, _ = hash.Write([]byte("null"))
		} else {
			_, _ = hash.Write([]byte(`""`))
		}
		text, found = after, found+1
	}
}

// visit marks the fields of a value and of all that it contains, such as the metadata
// of the claim templates of volumes.
func (m *marked) visit(v reflect.Value) {
	switch kind := v.Kind(); {
	case kind == reflect.Pointer && !v.IsNil():
		m.visit(v.Elem())
	case kind == reflect.Slice && v.Type().Elem().Kind() != reflect.String, kind == reflect.Array:
		for i := range v.Len() {
			m.visit(v.Index(i))
		}
	case kind == reflect.Struct:
		m.mark(v.Addr().Interface())
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				m.visit(v.Field(i))
			}
		}
	}
}

// mark marks the fields of one struct, and removes those that the types of the dialect
// do not have. The random resources of test/tektonreleases have all fields, so that its test
// notices more of them.
func (m *marked) mark(value any) {
	if template, ok := value.(*v1beta1.StepTemplate); ok {
		m.markName(template)
	}
	if m.dialect != NullTimestamps {
		return
	}
	switch value := value.(type) {
	case *metav1.ObjectMeta:
		if value.CreationTimestamp.IsZero() {
			value.CreationTimestamp = m.time
			m.timestamps = append(m.timestamps, &value.CreationTimestamp)
		}
	case *corev1.EnvVarSource:
		value.FileKeyRef = nil
	case *corev1.Lifecycle:
		value.StopSignal = nil
	case *corev1.VolumeProjection:
		value.PodCertificate = nil
	}
}

// markName marks the deprecated name of a step template, which older releases write
// without a value, too.
func (m *marked) markName(template *v1beta1.StepTemplate) {
	name, ok := reflect.TypeAssert[*string](reflect.ValueOf(template).Elem().FieldByName("DeprecatedName").Addr())
	if ok && *name == "" {
		*name = m.text()
		m.names = append(m.names, name)
	}
}
