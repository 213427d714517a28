// SPDX-License-Identifier: Apache-2.0

// Package clusterpolicy writes and reads the ConfigMap with the ClusterVerificationPolicies
// that are in force (v1alpha1.ClusterPoliciesConfigMap), and the selectors by which the API
// server enforces them (v1alpha1.EnforcedAnnotation). All replicas decide by the same state,
// which stays when the objects cannot be read.
package clusterpolicy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

const (
	// MaxBytes bounds the ConfigMap. The API server allows 1 MiB with the metadata.
	MaxBytes = 1000 << 10
	// MaxSelectors bounds the different selectors of policies in mode enforce. The API server
	// compares each of them with the namespace of each Pod of a TaskRun, and refuses all
	// Pods if that takes too much time. See the measurements in docs/design/0033.
	MaxSelectors = 500
)

// ErrTooLarge means that the policies do not fit into one ConfigMap, or have too many
// selectors.
var ErrTooLarge = errors.New("the policies are too large")

// entry is a policy in the ConfigMap.
type entry struct {
	UID             string                                 `json:"uid"`
	ResourceVersion string                                 `json:"resourceVersion"`
	Generation      int64                                  `json:"generation"`
	SpecSHA256      string                                 `json:"specSha256"`
	Spec            v1alpha1.ClusterVerificationPolicySpec `json:"spec"`
	PublicKeys      map[string]string                      `json:"publicKeys,omitempty"`
}

// Encode returns the data of the ConfigMap, and the selectors for the API server. The error
// wraps ErrTooLarge, or says which policy has no valid selector.
func Encode(policies []policy.ClusterPolicy) (data map[string]string, selectors string, err error) {
	data = map[string]string{}
	var enforced []string
	size := 0
	for _, p := range policies {
		encoded, err := json.Marshal(entry{p.Revision.UID, p.Revision.ResourceVersion, p.Generation, p.Revision.SpecSHA256, p.Spec, p.PublicKeys})
		if err != nil {
			return nil, "", fmt.Errorf("ClusterVerificationPolicy %s: %w", p.Name, err)
		}
		data[p.Name] = string(encoded)
		size += len(p.Name) + len(encoded)
		if p.Spec.Mode != v1alpha1.PolicyEnforce {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(&p.Spec.NamespaceSelector)
		if err != nil {
			return nil, "", fmt.Errorf("ClusterVerificationPolicy %s: namespaceSelector: %w", p.Name, err)
		}
		enforced = append(enforced, line(selector))
	}
	slices.Sort(enforced)
	enforced = slices.Compact(enforced)
	selectors = strings.Join(enforced, "\n")
	switch {
	case size > MaxBytes:
		return nil, "", fmt.Errorf("%w: %d bytes, expected at most %d; use fewer authorities, or KeyRings", ErrTooLarge, size, MaxBytes)
	case len(enforced) > MaxSelectors || len(selectors) > maxSelectorBytes:
		return nil, "", fmt.Errorf("%w: %d different selectors with %d bytes, expected at most %d with %d; let policies select by fewer labels",
			ErrTooLarge, len(enforced), len(selectors), MaxSelectors, maxSelectorBytes)
	}
	data[v1alpha1.RevisionKey] = revision(data)
	return data, selectors, nil
}

// maxSelectorBytes bounds the annotation. The API server allows 256 KiB for all.
const maxSelectorBytes = 128 << 10

// line returns a selector as the admission policies in config/admission read it: "*" for
// all namespaces, or requirements with ";" between them, such as "stage In prod,canary".
func line(selector labels.Selector) string {
	requirements, _ := selector.Requirements()
	if len(requirements) == 0 {
		return "*"
	}
	texts := make([]string, 0, len(requirements))
	for _, r := range requirements {
		texts = append(texts, requirement(r))
	}
	return strings.Join(texts, ";")
}

func requirement(r labels.Requirement) string {
	values := strings.Join(slices.Sorted(maps.Keys(r.Values())), ",")
	switch r.Operator() { //nolint:exhaustive // LabelSelectorAsSelector makes only these
	case selection.Exists:
		return r.Key() + " Exists"
	case selection.DoesNotExist:
		return r.Key() + " DoesNotExist"
	case selection.NotIn:
		return r.Key() + " NotIn " + values
	default:
		return r.Key() + " In " + values
	}
}

// revision identifies the data.
func revision(data map[string]string) string {
	sum := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(data)) {
		if key != v1alpha1.RevisionKey {
			fmt.Fprintf(sum, "%d %s %d %s\n", len(key), key, len(data[key]), data[key])
		}
	}
	return hex.EncodeToString(sum.Sum(nil))[:16]
}

// Decode returns the policies in the data of the ConfigMap, by name. The error names the
// entry that is not as Encode writes it.
func Decode(data map[string]string) ([]policy.ClusterPolicy, error) {
	var policies []policy.ClusterPolicy
	for _, name := range slices.Sorted(maps.Keys(data)) {
		if strings.Contains(name, "_") {
			continue
		}
		var e entry
		decoder := json.NewDecoder(bytes.NewReader([]byte(data[name])))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&e); err != nil {
			return nil, fmt.Errorf("entry %q: %w", name, err)
		}
		if decoder.More() {
			return nil, fmt.Errorf("entry %q: found more than one object", name)
		}
		policies = append(policies, policy.ClusterPolicy{
			Name: name, Generation: e.Generation, Spec: e.Spec, PublicKeys: e.PublicKeys,
			Revision: policy.Revision{UID: e.UID, ResourceVersion: e.ResourceVersion, SpecSHA256: e.SpecSHA256},
		})
	}
	return policies, nil
}
