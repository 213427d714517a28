// SPDX-License-Identifier: Apache-2.0

// Package pkg_test pins the structure of the packages.
package pkg_test

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/trusted-resources/chains-extension/"

// mayImport are the packages of this module that each package may import, below
// pkg/. Arrows point from what acts to what decides to facts (docs/architecture.md).
// A change of this table is a change of the architecture.
var mayImport = map[string][]string{
	// Facts.
	"apis/v1alpha1":             {},
	"client":                    {"apis/v1alpha1"},
	"resource":                  {"apis/v1alpha1", "tekton"},
	"tekton":                    {},
	"version":                   {},
	"keys":                      {},
	"oci/registry":              {},
	"oci/registry/registrytest": {},
	"oci/tektonbundle":          {"apis/v1alpha1", "oci/registry", "resource", "tekton"},
	"oci/imagesignature":        {"keys"},
	"config":                    {"apis/v1alpha1", "oci/registry", "resource"},
	"policy":                    {"apis/v1alpha1", "keys"},
	"audit":                     {"keys"},

	// Decisions and stores.
	"admission":            {"apis/v1alpha1"},
	"snapshot":             {"config", "keys", "tekton"},
	"decision":             {"config", "keys", "resource", "snapshot", "tekton"},
	"dependencies":         {"apis/v1alpha1", "dependencies/offline", "policy", "resource", "tekton"},
	"dependencies/offline": {},
	"attestation":          {"dependencies", "policy", "resource"},
	"verification":         {"attestation", "dependencies", "policy", "resource", "tekton"},
	"gate":                 {"attestation", "config", "policy"},
	"keyring":              {"apis/v1alpha1"},
	"clusterpolicy":        {"apis/v1alpha1", "policy"},
	"store/annotation":     {"resource"},
	"store/oci":            {"keys", "oci/imagesignature", "oci/registry", "oci/tektonbundle", "resource", "tekton"},
	"observe":              {"apis/v1alpha1", "audit", "decision", "resource", "tekton"},
	"auditlog":             {"audit", "keys"},

	// Actions.
	"controllers/informers": {"resource"},
	"controllers/clusterpolicies": {
		"apis/v1alpha1", "attestation", "clusterpolicy", "controllers/inforce", "keys", "observe", "policy",
	},
	"controllers/inforce":       {"apis/v1alpha1"},
	"controllers/leases":        {},
	"controllers/materializing": {"apis/v1alpha1", "observe", "policy"},
	"controllers/reports":       {"apis/v1alpha1", "observe", "policy", "resource"},
	"controllers/turns":         {},
	"controllers/rights":        {"apis/v1alpha1", "resource"},
	"controllers/rings":         {"apis/v1alpha1", "keyring", "keys"},
	"controllers/rotation":      {"apis/v1alpha1", "controllers/rings", "decision", "keyring", "keys", "observe", "policy", "resource", "tekton"},
	"controllers/state":         {"config", "decision", "keys", "observe", "policy", "resource", "snapshot", "tekton"},
	"controllers/resources": {
		"apis/v1alpha1", "audit", "controllers/informers", "controllers/turns", "decision", "keys", "observe", "oci/registry", "resource", "tekton",
	},
	"controllers/signing": {
		"audit", "config", "controllers/informers", "controllers/resources", "controllers/state",
		"decision", "keys", "observe", "resource", "store/annotation",
	},
	"controllers/storing": {
		"config", "controllers/informers", "controllers/resources", "controllers/state",
		"decision", "keys", "observe", "resource", "store/oci", "tekton",
	},
	"controllers/runs": {
		"apis/v1alpha1", "attestation", "config", "controllers/informers", "dependencies", "keys", "observe", "policy", "resource", "store/oci", "tekton",
		"verification",
	},
	"controllers/gating": {"apis/v1alpha1", "attestation", "config", "controllers/informers", "controllers/turns", "gate", "observe", "verification"},
	"cli":                {"apis/v1alpha1", "audit", "client", "keyring", "keys", "oci/imagesignature", "oci/registry", "resource", "store/oci", "tekton", "version"},
	"webhook":            {"admission", "apis/v1alpha1", "config", "observe", "resource"},

	// Wiring.
	"app": {
		"apis/v1alpha1", "attestation", "audit", "auditlog", "client", "config",
		"controllers/clusterpolicies", "controllers/gating", "controllers/inforce", "controllers/informers", "controllers/leases", "controllers/materializing", "controllers/reports", "controllers/rights", "controllers/rings", "controllers/rotation", "controllers/runs", "controllers/signing", "controllers/state", "controllers/storing",
		"keys", "observe", "oci/imagesignature", "oci/registry", "policy", "resource", "store/annotation", "store/oci", "tekton",
		"verification", "version",
	},
}

// withClients may import clients of Kubernetes and Tekton, and controller packages
// of knative. All other packages take interfaces of one to three methods.
var withClients = map[string]bool{
	"app": true, "client": true, "observe": true, "webhook": true,
	"controllers/clusterpolicies": true, "controllers/gating": true, "controllers/informers": true, "controllers/leases": true, "controllers/materializing": true, "controllers/reports": true, "controllers/resources": true, "controllers/rights": true, "controllers/rings": true, "controllers/rotation": true, "controllers/runs": true,
	"controllers/signing": true, "controllers/state": true, "controllers/storing": true, "controllers/turns": true,
	// Tekton's functions want a client; this one answers without a server.
	"dependencies/offline": true,
}

var clients = []string{
	"k8s.io/client-go/", "github.com/tektoncd/pipeline/pkg/client/",
	"knative.dev/pkg/client/", "knative.dev/pkg/controller", "knative.dev/pkg/configmap", "knative.dev/pkg/injection",
	"knative.dev/pkg/reconciler",
}

// notClients are packages below those that talk to no server.
var notClients = []string{"github.com/tektoncd/pipeline/pkg/client/clientset/versioned/scheme"}

func TestPackages_ImportOnlyLowerLayers(t *testing.T) {
	found := listPackages(t)
	for name, imports := range found {
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("package pkg/%s is in no layer; add it to mayImport", name)
		}
		for _, imported := range imports {
			if ours, ok := strings.CutPrefix(imported, module+"pkg/"); ok && !slices.Contains(allowed, ours) {
				t.Errorf("pkg/%s imports pkg/%s, expected one of %v", name, ours, allowed)
			}
		}
	}
	for name := range maps.Keys(mayImport) {
		if _, exists := found[name]; !exists {
			t.Errorf("package pkg/%s does not exist; remove it from mayImport", name)
		}
	}
}

func TestDecisions_ImportNoClients(t *testing.T) {
	for name, imports := range listPackages(t) {
		for _, imported := range imports {
			isClient := slices.ContainsFunc(clients, func(prefix string) bool { return strings.HasPrefix(imported, prefix) })
			if isClient && !withClients[name] && !slices.Contains(notClients, imported) {
				t.Errorf("pkg/%s imports %s; take an interface instead", name, imported)
			}
		}
	}
}

// listPackages returns the direct imports of all packages below pkg/.
func listPackages(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,GoFiles", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	found := map[string][]string{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var listed struct {
			ImportPath       string
			Imports, GoFiles []string
		}
		err := decoder.Decode(&listed)
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(listed.GoFiles) > 0 { // this test has none
			found[strings.TrimPrefix(listed.ImportPath, module+"pkg/")] = listed.Imports
		}
	}
}
