// Package config reads what this project adds to Chains' ConfigMap
// chains-config, together with Chains' own settings that it shares.
package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tektoncd/chains/pkg/chains/formats"
	"github.com/tektoncd/chains/pkg/chains/signing"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Group is the prefix of every name of ours in Kubernetes.
const Group = "trustedresources.tekton.dev"

// NamespaceLabel opts a namespace in ("true") or, when all namespaces are
// selected, out ("false").
const NamespaceLabel = Group + "/sign"

// SignerNone turns signing of a kind off.
const SignerNone = "none"

// Where signatures are kept.
const (
	// StorageTekton is the resource's own annotation, where Tekton's verifier
	// looks for it.
	StorageTekton = "tekton"
	// StorageOCI is a registry: the resource in a Tekton bundle, signed. Alone, it
	// leaves the resource in the cluster as it is.
	StorageOCI = "oci"
)

// NamespaceMode says which namespaces are signed without a label of their own.
type NamespaceMode string

const (
	// NamespacesLabelled selects namespaces that carry NamespaceLabel "true".
	NamespacesLabelled NamespaceMode = "labelled"
	// NamespacesAll selects every namespace whose NamespaceLabel is absent or "true".
	NamespacesAll NamespaceMode = "all"
)

const (
	namespacesKey = "trustedresources.namespaces"
	provenanceKey = "trustedresources.provenance.enabled"
	repositoryKey = "trustedresources.oci.repository"
)

// maxRepository bounds the prefix, in bytes: what is below it takes up to 64 of
// the 255 that a repository's name may have.
const maxRepository = 190

// ownPrefixes are the key prefixes of chains-config that belong to this
// project. An unknown key below one of them is an error; all other keys are
// Chains'.
var ownPrefixes = []string{"artifacts.task.", "artifacts.pipeline.", "artifacts.stepaction.", "trustedresources."}

// Config is one consistent reading of chains-config. It is never changed after
// it was made.
type Config struct {
	// Chains holds Chains' own settings, of which the KMS ones are shared.
	Chains *chainsconfig.Config
	// Namespaces says which namespaces are selected.
	Namespaces NamespaceMode
	// Provenance says that attestations carry the verification status.
	Provenance bool
	// Repository is what the names of the repositories for bundles start with:
	// "registry.example/tekton". Empty if there are none.
	Repository string

	signers map[resource.Kind]string
	storage map[resource.Kind][]string
}

// Default signs nothing.
func Default() *Config {
	c := &Config{
		Chains:     &chainsconfig.Config{},
		Namespaces: NamespacesLabelled,
		signers:    map[resource.Kind]string{},
		storage:    map[resource.Kind][]string{},
	}
	for _, kind := range resource.Kinds {
		c.signers[kind] = SignerNone
		c.storage[kind] = []string{StorageTekton}
	}
	return c
}

// Signer is the type of signer for resources of a kind: SignerNone or one of
// Chains' signer types.
func (c *Config) Signer(kind resource.Kind) string { return c.signers[kind] }

// Stores says whether the signatures of a kind are kept in a storage.
func (c *Config) Stores(kind resource.Kind, storage string) bool {
	return slices.Contains(c.storage[kind], storage)
}

// SignerTypes are the types of signer that at least one kind asks for, sorted.
func (c *Config) SignerTypes() []string {
	types := sets.New[string]()
	for _, signer := range c.signers {
		types.Insert(signer)
	}
	return sets.List(types.Delete(SignerNone))
}

// Parse reads the data of chains-config. The error names each key that is
// wrong, what was found and what is expected.
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
	return c, nil
}

// enrichedFormats are the formats of attestations that can carry the
// verification status.
var enrichedFormats = []string{string(formats.PayloadTypeSlsav2alpha3), string(formats.PayloadTypeSlsav2alpha4)}

func enrichable(c *chainsconfig.Config) bool {
	return slices.Contains(enrichedFormats, c.Artifacts.TaskRuns.Format) ||
		slices.Contains(enrichedFormats, c.Artifacts.PipelineRuns.Format)
}

func ours(key string) bool {
	return slices.ContainsFunc(ownPrefixes, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
}

// set takes one setting in and returns what is wrong with it, if anything.
func (c *Config) set(key, value string) (problem string) {
	if key == namespacesKey {
		c.Namespaces = NamespaceMode(value)
		return oneOf(value, string(NamespacesLabelled), string(NamespacesAll))
	}
	if key == provenanceKey {
		c.Provenance = value == "true"
		return oneOf(value, "true", "false")
	}
	if key == repositoryKey {
		c.Repository = value
		return repository(value)
	}
	for _, kind := range resource.Kinds {
		switch key {
		case "artifacts." + kind.ConfigName() + ".signer":
			c.signers[kind] = value
			return oneOf(value, SignerNone, signing.TypeX509, signing.TypeKMS)
		case "artifacts." + kind.ConfigName() + ".storage":
			c.storage[kind] = strings.Split(strings.ReplaceAll(value, " ", ""), ",")
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
	if len(value) > maxQuoted {
		value = value[:maxQuoted] + "…"
	}
	return fmt.Sprintf("found %q, expected one of: %s", value, strings.Join(allowed, ", "))
}

// Selects says whether the resources of a namespace with these labels are
// signed. Any label value but "true" opts out: what we do not know, we leave
// alone.
func (c *Config) Selects(namespaceLabels map[string]string) bool {
	value, labelled := namespaceLabels[NamespaceLabel]
	if labelled {
		return value == "true"
	}
	return c.Namespaces == NamespacesAll
}
