// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"strings"
	"time"

	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// maxText is the largest length of a text from outside of this program in the
// attestation, in bytes.
const maxText = 1 << 10

// values returns the record as docs/verification.schema.json describes it. Empty
// fields are left out.
func (r Record) values(checkedAt time.Time) map[string]any {
	values := outcomeValues(r.Outcome)
	values["kind"] = string(r.Kind)
	put(values, "namespace", r.Namespace)
	put(values, "name", r.Name)
	put(values, "requestedBy", r.RequestedBy)
	values["checkedAt"] = timestamp(checkedAt)
	if len(r.Policies) > 1 {
		policies := make([]any, 0, len(r.Policies))
		for _, outcome := range r.Policies {
			policies = append(policies, outcomeValues(outcome))
		}
		values["policies"] = policies
	}
	if r.Shadow != nil {
		values["shadow"] = outcomeValues(r.Shadow.Outcome)
	}
	return values
}

func outcomeValues(o policy.Outcome) map[string]any {
	values := map[string]any{"result": string(o.Result)}
	put(values, "reason", string(o.Reason))
	put(values, "mode", string(o.Mode))
	put(values, "policy", o.Policy)
	if o.Rank != nil {
		values["policyScope"], values["tier"], values["priority"] = clusterScope, string(o.Rank.Tier), o.Rank.Priority
	}
	if revision := revisionValues(o.Revision); len(revision) > 0 {
		values["policyRevision"] = revision
	}
	put(values, "keyId", o.KeyID)
	return values
}

// clusterScope says that a policy is a ClusterVerificationPolicy. A VerificationPolicy has no
// scope in the attestation, because that of the run's namespace is meant.
const clusterScope = "cluster"

func revisionValues(r policy.Revision) map[string]any {
	values := map[string]any{}
	put(values, "uid", r.UID)
	put(values, "resourceVersion", r.ResourceVersion)
	put(values, "specSha256", r.SpecSHA256)
	return values
}

// summary returns the summary of the run in the same schema. It lists the records
// that have no dependency.
func (r Report) summary(others []Record) map[string]any {
	counts := r.counts()
	tekton := map[string]any{"status": r.TektonStatus}
	put(tekton, "message", r.TektonMessage)
	values := map[string]any{
		"schemaVersion": SchemaVersion,
		"result":        string(r.Result()),
		"counts": map[string]any{
			"passed": counts[policy.Passed], "failed": counts[policy.Failed], "skipped": counts[policy.Skipped],
		},
		"tekton":    tekton,
		"agreement": string(r.Agreement),
		"overrides": texts(r.Overrides),
		"checkedAt": timestamp(r.CheckedAt),
	}
	if r.Gate.Decision != "" {
		values["gate"] = r.Gate.values()
	}
	if len(others) > 0 {
		values[VerificationAnnotation] = list(others, r.CheckedAt)
	}
	return values
}

func list(records []Record, checkedAt time.Time) []any {
	values := make([]any, 0, len(records))
	for _, record := range records {
		values = append(values, record.values(checkedAt))
	}
	return values
}

func texts(all []string) []any {
	values := make([]any, 0, len(all))
	for _, text := range all {
		values = append(values, text)
	}
	return values
}

// put sets a field unless the text is empty. It shortens the text, and makes it
// valid UTF-8, which protocol buffers demand.
func put(values map[string]any, name, text string) {
	if text == "" {
		return
	}
	if len(text) > maxText {
		text = text[:maxText]
	}
	values[name] = strings.ToValidUTF8(text, "\uFFFD")
}

func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
