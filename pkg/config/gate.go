// SPDX-License-Identifier: Apache-2.0

package config

const (
	gateUnmatchedKey = "trustedresources.gate.unmatched"
	gateInlineKey    = "trustedresources.gate.inline"
	gateOverridesKey = "trustedresources.gate.overrides"
)

// GateMode says what the gate does with something that no signature covers.
type GateMode string

// The modes of the gate.
const (
	GateRefuse GateMode = "refuse"
	GateAllow  GateMode = "allow"
)

// Gate has the settings of the gate. They hold for all namespaces with the label
// trustedresources.tekton.dev/verify.
type Gate struct {
	// Unmatched is about resources that no policy of the namespace matches.
	Unmatched GateMode
	// Inline is about specs that a run carries itself.
	Inline GateMode
	// Overrides is about fields of a run that change what its containers execute.
	Overrides GateMode
}

// set applies one setting and returns what is wrong with the setting, or "".
func (g *Gate) set(key, value string) (problem string) {
	setting := map[string]*GateMode{gateUnmatchedKey: &g.Unmatched, gateInlineKey: &g.Inline, gateOverridesKey: &g.Overrides}[key]
	*setting = GateMode(value)
	return oneOf(value, string(GateRefuse), string(GateAllow))
}
