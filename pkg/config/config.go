// SPDX-License-Identifier: Apache-2.0

// Package config reads the ConfigMap chains-config: the settings that this project
// adds, and the settings of Chains that it uses.
package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tektoncd/chains/pkg/chains/formats"
	"github.com/tektoncd/chains/pkg/chains/signing"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// SignerNone means that resources of a kind are not signed.
const SignerNone = "none"

// The places where signatures are stored.
const (
	// StorageTekton is the annotation of the resource, where Tekton's verifier reads
	// the signature.
	StorageTekton = "tekton"
	// StorageOCI is a registry, which gets the resource as a signed Tekton bundle.
	// Without StorageTekton the resource in the cluster is not written.
	StorageOCI = "oci"
)

// NamespaceMode says whether a namespace without SignLabel is selected for signing.
type NamespaceMode string

const (
	// NamespacesLabelled selects the namespaces whose SignLabel is "true".
	NamespacesLabelled NamespaceMode = "labelled"
	// NamespacesAll selects the namespaces whose SignLabel is absent or "true".
	NamespacesAll NamespaceMode = "all"
)

// RequesterMode says what happens with the user who made the content of a resource.
type RequesterMode string

const (
	// RequesterOff records nobody.
	RequesterOff RequesterMode = "off"
	// RequesterRecord records the user in the resource, if the user has the right to sign.
	RequesterRecord RequesterMode = "record"
	// RequesterRequired also leaves resources unsigned that have no such user.
	RequesterRequired RequesterMode = "required"
)

const (
	requesterKey  = "trustedresources.requester"
	namespacesKey = "trustedresources.namespaces"
	provenanceKey = "trustedresources.provenance.enabled"
	repositoryKey = "trustedresources.oci.repository"
	reportsKey    = "trustedresources.reports"
)

// ReportsMode says in which form verdicts are reported to other tools.
type ReportsMode string

const (
	// ReportsNone writes no reports.
	ReportsNone ReportsMode = "none"
	// ReportsOpenReports writes objects of the kind Report of openreports.io.
	ReportsOpenReports ReportsMode = "openreports"
)

// OwnConfigMap may have our settings instead of chains-config, which does not belong
// to the administrator where the Tekton operator has installed Chains.
const OwnConfigMap = "trusted-resources-config"

// kmsAuthKey is the setting of Chains that has a token for a KMS in it. Everybody who
// may read the ConfigMap can read the token.
const kmsAuthKey = "signers.kms.auth.token"

// WithoutToken returns the ConfigMap without a token for a KMS. It does not change
// the ConfigMap.
func WithoutToken(cm *corev1.ConfigMap) *corev1.ConfigMap {
	if _, found := cm.Data[kmsAuthKey]; !found {
		return cm
	}
	cm = cm.DeepCopy()
	delete(cm.Data, kmsAuthKey)
	return cm
}

// maxRepository bounds the prefix, in bytes. The name of a repository has at most
// 255 bytes, of which the part below the prefix needs up to 64.
const maxRepository = 190

// ownPrefixes are the prefixes of our keys in chains-config. An unknown key with one
// of these prefixes is an error. All other keys are keys of Chains.
var ownPrefixes = []string{"artifacts.task.", "artifacts.pipeline.", "artifacts.stepaction.", "trustedresources."}

// Config is the content of chains-config at one moment. A Config is never changed.
type Config struct {
	// Chains has the settings of Chains. The settings of the KMS hold for resources, too.
	Chains *chainsconfig.Config
	// Namespaces says whether a namespace without a label is selected.
	Namespaces NamespaceMode
	// Requester says whether resources record who made their content.
	Requester RequesterMode
	// Provenance reports whether attestations contain the verification status.
	Provenance bool
	// Repository is the prefix of the repositories for bundles, such as
	// "registry.example/tekton". Empty if bundles are not stored.
	Repository string
	// Gate says what the gate lets through that no policy has verified.
	Gate Gate
	// Audit says where the audit log goes.
	Audit Audit
	// Reports says in which form verdicts are reported to other tools.
	Reports ReportsMode

	signers map[resource.Kind]string
	storage map[resource.Kind][]string
	// policyKMS are the references to keys of a KMS that policies may name, besides
	// that of the signer.
	policyKMS     []string
	policySecrets SecretsMode
}

// Default returns a configuration that signs nothing.
func Default() *Config {
	c := &Config{
		Chains:     &chainsconfig.Config{},
		Namespaces: NamespacesLabelled,
		Requester:  RequesterOff,
		signers:    map[resource.Kind]string{},
		storage:    map[resource.Kind][]string{},

		policySecrets: SecretsAny,
		Audit:         defaultAudit(),
		Reports:       ReportsNone,
		Gate:          Gate{Unmatched: GateRefuse, Inline: GateRefuse, Overrides: GateAllow},
	}
	for _, kind := range resource.Kinds {
		c.signers[kind] = SignerNone
		c.storage[kind] = []string{StorageTekton}
	}
	return c
}

// Signer returns the type of the signer of a kind: SignerNone or a signer type of
// Chains.
func (c *Config) Signer(kind resource.Kind) string { return c.signers[kind] }

// Stores reports whether the signatures of a kind are stored in a place.
func (c *Config) Stores(kind resource.Kind, storage string) bool {
	return slices.Contains(c.storage[kind], storage)
}

// SignerTypes returns the types of the signers of all kinds, sorted.
func (c *Config) SignerTypes() []string {
	types := sets.New[string]()
	for _, signer := range c.signers {
		types.Insert(signer)
	}
	return sets.List(types.Delete(SignerNone))
}

// Parse reads the data of chains-config. The error names each wrong key, the value
// that was found and the values that are expected.
func Parse(data map[string]string) (*Config, error) {
	c := Default()
	var problems []string
	for _, key := range slices.Sorted(maps.Keys(data)) {
		if !ours(key) {
			continue
		}
		if problem := c.set(key, data[key]); problem != "" {
			problems = append(problems, fmt.Sprintf("%s: %s", key, problem))
		}
	}
	if data[kmsAuthKey] != "" {
		problems = append(problems, kmsAuthKey+": found a token, which everybody who may read this ConfigMap can read; "+
			"expected signers.kms.auth.token-path. Revoke the token in the KMS, write a new one to a file of the Secret signing-secrets, "+
			"set signers.kms.auth.token-path to the path of this file (/etc/signing-secrets/…), and remove "+kmsAuthKey)
	}
	if err := c.Audit.check(); err != nil && len(problems) == 0 {
		problems = append(problems, err.Error())
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("%s", strings.Join(problems, "; "))
	}
	chains, err := chainsconfig.NewConfigFromMap(data)
	if err != nil {
		return nil, fmt.Errorf("a setting of Tekton Chains: %w", err)
	}
	c.Chains = chains
	for _, kind := range resource.Kinds {
		if c.Stores(kind, StorageOCI) && c.Repository == "" {
			return nil, fmt.Errorf("%s is missing: artifacts.%s.storage asks for %q; set it to where the bundles go, such as registry.example/tekton",
				repositoryKey, kind.ConfigName(), StorageOCI)
		}
	}
	if c.Provenance && !enrichable(chains) {
		return nil, fmt.Errorf("%s: the attestations are of formats that cannot carry it; "+
			"set artifacts.taskrun.format or artifacts.pipelinerun.format to one of: %s", provenanceKey, strings.Join(enrichedFormats, ", "))
	}
	if c.Reports != ReportsNone && !c.Provenance {
		return nil, fmt.Errorf("%s is %q: the reports have the verdicts of attestations; set %s to \"true\"", reportsKey, c.Reports, provenanceKey)
	}
	return c, nil
}

// enrichedFormats are the formats of attestations that can contain the verification
// status.
var enrichedFormats = []string{string(formats.PayloadTypeSlsav2alpha3), string(formats.PayloadTypeSlsav2alpha4)}

func enrichable(c *chainsconfig.Config) bool {
	return slices.Contains(enrichedFormats, c.Artifacts.TaskRuns.Format) ||
		slices.Contains(enrichedFormats, c.Artifacts.PipelineRuns.Format)
}

func ours(key string) bool {
	return slices.ContainsFunc(ownPrefixes, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
}

// set applies one setting and returns what is wrong with the setting, or "".
func (c *Config) set(key, value string) (problem string) {
	switch key {
	case namespacesKey:
		c.Namespaces = NamespaceMode(value)
		return oneOf(value, string(NamespacesLabelled), string(NamespacesAll))
	case requesterKey:
		c.Requester = RequesterMode(value)
		return oneOf(value, string(RequesterOff), string(RequesterRecord), string(RequesterRequired))
	case provenanceKey:
		c.Provenance = value == "true"
		return oneOf(value, "true", "false")
	case repositoryKey:
		c.Repository = value
		return repository(value)
	case reportsKey:
		c.Reports = ReportsMode(value)
		return oneOf(value, string(ReportsNone), string(ReportsOpenReports))
	case gateUnmatchedKey, gateInlineKey, gateOverridesKey:
		return c.Gate.set(key, value)
	case policyKMSKey:
		return c.setPolicyKMS(value)
	case policySecretsKey:
		c.policySecrets = SecretsMode(value)
		return oneOf(value, string(SecretsAny), string(SecretsOwnNamespace))
	}
	if strings.HasPrefix(key, auditPrefix) {
		return c.Audit.set(key, value)
	}
	for _, kind := range resource.Kinds {
		switch key {
		case "artifacts." + kind.ConfigName() + ".signer":
			c.signers[kind] = value
			return oneOf(value, SignerNone, signing.TypeX509, signing.TypeKMS)
		case "artifacts." + kind.ConfigName() + ".storage":
			c.storage[kind] = commaList(value)
			return someOf(c.storage[kind], StorageTekton, StorageOCI)
		}
	}
	return "unknown key; remove it or correct its spelling"
}

func someOf(values []string, allowed ...string) (problem string) {
	for i, value := range values {
		if problem := oneOf(value, allowed...); problem != "" {
			return problem
		}
		if slices.Contains(values[:i], value) {
			return fmt.Sprintf("found %q twice", value)
		}
	}
	return ""
}

func repository(value string) (problem string) {
	if len(value) > maxRepository {
		return fmt.Sprintf("found %d characters, expected at most %d", len(value), maxRepository)
	}
	if _, err := registry.ParseRepository(value); err != nil {
		return fmt.Sprintf("expected the name of a repository with its registry, such as registry.example/tekton: %v", err)
	}
	return ""
}

const maxQuoted = 64

func oneOf(value string, allowed ...string) (problem string) {
	if slices.Contains(allowed, value) {
		return ""
	}
	return fmt.Sprintf("found %q, expected one of: %s", shortened(value), strings.Join(allowed, ", "))
}

// shortened bounds what an error quotes.
func shortened(value string) string {
	if len(value) > maxQuoted {
		return value[:maxQuoted] + "…"
	}
	return value
}

// commaList splits a list such as "a, b".
func commaList(value string) []string { return strings.Split(strings.ReplaceAll(value, " ", ""), ",") }

// Selects reports whether the resources of a namespace with these labels are
// signed. An unknown value of the label excludes the namespace.
func (c *Config) Selects(namespaceLabels map[string]string) bool {
	value, labelled := namespaceLabels[v1alpha1.SignLabel]
	if labelled {
		return value == "true"
	}
	return c.Namespaces == NamespacesAll
}
