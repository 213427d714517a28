// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// Whoever reads a refusal is told what to do, for each reason of the schema.
func TestRemedies_AreComplete(t *testing.T) {
	content, err := os.ReadFile("../../docs/verification.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Defs struct {
			Reason struct {
				OneOf []struct{ Const policy.Reason }
			}
		} `json:"$defs"`
	}
	if err := json.Unmarshal(content, &schema); err != nil {
		t.Fatal(err)
	}
	reasons := schema.Defs.Reason.OneOf
	if len(reasons) != len(remedies) {
		t.Errorf("there are %d reasons and %d remedies", len(reasons), len(remedies))
	}
	for _, reason := range reasons {
		if remedy(reason.Const) == "" {
			t.Errorf("reason %s has no remedy", reason.Const)
		}
	}
}
