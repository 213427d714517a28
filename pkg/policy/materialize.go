// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// Materialized is a ClusterVerificationPolicy that is asked for as a VerificationPolicy of
// one namespace.
type Materialized struct {
	// Policy is the name of the ClusterVerificationPolicy.
	Policy string
	// Name is that of the VerificationPolicy.
	Name string
	// Object is the VerificationPolicy. It is nil if Tekton would decide otherwise than the
	// ClusterVerificationPolicy; Reason and Message say why.
	Object          *tekton.VerificationPolicy
	Reason, Message string
}

// maxMaterialized bounds one VerificationPolicy, in bytes of JSON.
const maxMaterialized = 64 << 10

// Materialized returns the policies that select a namespace with these labels and are to be
// materialized. own are the VerificationPolicies of the namespace, without materialized
// ones. ring returns the public keys in PEM of the KeyRing that serves the namespace.
func (c *Cluster) Materialized(
	namespace string, namespaceLabels map[string]string, own []*tekton.VerificationPolicy, ring func() ([]string, error),
) ([]Materialized, error) {
	var made []Materialized
	ring = sync.OnceValues(ring)
	for _, p := range c.policies {
		if !p.Spec.Materialize || !p.namespaces.Matches(labels.Set(namespaceLabels)) {
			continue
		}
		next := Materialized{Policy: p.Name, Name: MaterializedName(p.Name)}
		if next.Message = c.before(p, namespace, namespaceLabels, own); next.Message != "" {
			next.Reason = v1alpha1.PolicyOverlaps
		} else if err := c.materialize(p, namespace, ring, &next); err != nil {
			return nil, err
		}
		made = append(made, next)
	}
	return made, nil
}

// before says which policy comes before p and has sources in common with it in a namespace.
// Tekton knows no order: it would let both decide.
func (c *Cluster) before(p selecting, namespace string, namespaceLabels map[string]string, own []*tekton.VerificationPolicy) string {
	for _, other := range c.policies {
		first := other.Spec.Tier == p.Spec.Tier && other.Spec.Priority < p.Spec.Priority ||
			other.Spec.Tier == v1alpha1.TierOverride && p.Spec.Tier == v1alpha1.TierDefault
		if first && other.namespaces.Matches(labels.Set(namespaceLabels)) && other.overlaps(p, namespace) {
			return fmt.Sprintf("ClusterVerificationPolicy %s comes first, and may have sources in common", other.Name)
		}
	}
	if p.Spec.Tier == v1alpha1.TierDefault && len(own) > 0 {
		return fmt.Sprintf("VerificationPolicy %s of the namespace comes first, and may have sources in common", own[0].Name)
	}
	return ""
}

// overlaps reports whether there may be a source that both policies match.
func (s selecting) overlaps(other selecting, namespace string) bool {
	for _, a := range s.Spec.Resources {
		for _, b := range other.Spec.Resources {
			if patternOf(a, namespace).overlaps(patternOf(b, namespace)) {
				return true
			}
		}
	}
	return false
}

// overlaps reports whether there may be a source that both patterns match. It is true for
// regular expressions, unless the other pattern is one source that they do not match.
func (p pattern) overlaps(other pattern) bool {
	if p.exact() {
		p, other = other, p
	}
	switch {
	case other.exact():
		matches, err := p.matches(other.text, &limits{})
		return matches || err != nil
	case p.literal && other.literal: // both are open
		return strings.HasPrefix(p.text, other.text) || strings.HasPrefix(other.text, p.text)
	}
	return true
}

// exact reports whether the pattern is one source.
func (p pattern) exact() bool { return p.literal && !p.open }

// materialize sets the object, or why there is none.
func (c *Cluster) materialize(p selecting, namespace string, ring func() ([]string, error), made *Materialized) error {
	ours, err := c.make(p, namespace, ring)
	if err != nil {
		return err
	}
	object := &tekton.VerificationPolicy{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: made.Name,
			Labels:      map[string]string{v1alpha1.MaterializedLabel: made.Name},
			Annotations: map[string]string{v1alpha1.MaterializedAnnotation: fmt.Sprintf("%s/%s/%d", p.Name, p.Revision.UID, p.Generation)},
		},
		Spec: tekton.VerificationPolicySpec{Mode: tekton.ModeEnforce, Authorities: ours.object.Spec.Authorities},
	}
	if p.Spec.Mode == v1alpha1.PolicyWarn {
		object.Spec.Mode = tekton.ModeWarn
	}
	for _, pattern := range ours.patterns {
		object.Spec.Resources = append(object.Spec.Resources, tekton.ResourcePattern{Pattern: pattern.expression()})
	}
	if len(object.Spec.Authorities) == 0 {
		made.Reason, made.Message = v1alpha1.PolicyNotExpressible, "the KeyRing of the namespace has no key that is to be trusted"
		return nil
	}
	encoded, err := json.Marshal(object)
	if err != nil {
		return err
	}
	if len(encoded) > maxMaterialized {
		made.Reason = v1alpha1.PolicyNotExpressible
		made.Message = fmt.Sprintf("the VerificationPolicy would have %d bytes, expected at most %d", len(encoded), maxMaterialized)
		return nil
	}
	made.Object = object
	return nil
}

// expression returns the pattern as a regular expression that Tekton uses as it is, because
// it begins with ^ and ends with $ (getMatchedPolicies in pkg/trustedresources).
func (p pattern) expression() string {
	switch {
	case !p.literal:
		return p.text
	case p.open:
		return whole(regexp.QuoteMeta(p.text) + "(?s:.*)") // a source may have line feeds
	}
	return whole(regexp.QuoteMeta(p.text))
}

// IsMaterialized reports whether a VerificationPolicy has the mark of those that stand for a
// ClusterVerificationPolicy.
func IsMaterialized(p *tekton.VerificationPolicy) bool {
	return p.Labels[v1alpha1.MaterializedLabel] != ""
}

// Own returns the VerificationPolicies without those that stand for a ClusterVerificationPolicy, by
// name.
func Own(found []*tekton.VerificationPolicy) []*tekton.VerificationPolicy {
	own := slices.DeleteFunc(slices.Clone(found), IsMaterialized)
	slices.SortFunc(own, func(a, b *tekton.VerificationPolicy) int { return cmp.Compare(a.Name, b.Name) })
	return own
}

// maxNamePart bounds the part of a name that tells people which policy it is. Tekton allows
// 63 characters in all.
const maxNamePart = 45

// MaterializedName returns the name of the VerificationPolicies that stand for a
// ClusterVerificationPolicy. Different policies have different names.
func MaterializedName(policy string) string {
	sum := sha256.Sum256([]byte(policy))
	part := policy[:min(len(policy), maxNamePart)]
	return "cvp-" + strings.TrimRight(strings.ReplaceAll(part, ".", "-"), "-") + "-" + hex.EncodeToString(sum[:4])
}
