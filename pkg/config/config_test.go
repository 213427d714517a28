// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

func TestParse_ReadsSettings(t *testing.T) {
	got, err := Parse(map[string]string{
		"artifacts.task.signer":       "x509",
		"artifacts.task.storage":      "tekton",
		"artifacts.stepaction.signer": "kms",
		"trustedresources.namespaces": "all",
		"signers.kms.kmsref":          "hashivault://key",
		"artifacts.taskrun.signer":    "none",
	})
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[resource.Kind]string{resource.Task: "x509", resource.Pipeline: SignerNone, resource.StepAction: "kms"} {
		if signer := got.Signer(kind); signer != want {
			t.Errorf("signer of %s: got %q, want %q", kind, signer, want)
		}
	}
	if types := strings.Join(got.SignerTypes(), ","); types != "kms,x509" {
		t.Errorf("signer types: got %s", types)
	}
	if got.Namespaces != NamespacesAll {
		t.Errorf("namespaces: got %q", got.Namespaces)
	}
	if got.Chains.Signers.KMS.KMSRef != "hashivault://key" {
		t.Error("Chains' own setting signers.kms.kmsref is lost")
	}
}

func TestParse_ReadsRequester(t *testing.T) {
	for value, want := range map[string]RequesterMode{"off": RequesterOff, "record": RequesterRecord, "required": RequesterRequired} {
		if got, err := Parse(map[string]string{"trustedresources.requester": value}); err != nil || got.Requester != want {
			t.Errorf("%s: got %+v and %v", value, got, err)
		}
	}
	if got := Default().Requester; got != RequesterOff {
		t.Errorf("without the setting: got %q", got)
	}
}

func TestParse_ReadsReports(t *testing.T) {
	for value, want := range map[string]ReportsMode{"none": ReportsNone, "openreports": ReportsOpenReports} {
		got, err := Parse(map[string]string{
			"trustedresources.reports": value, "trustedresources.provenance.enabled": "true", "artifacts.taskrun.format": "slsa/v2alpha4",
		})
		if err != nil || got.Reports != want {
			t.Errorf("%s: got %+v and %v", value, got, err)
		}
	}
	if got, err := Parse(map[string]string{"trustedresources.reports": "none"}); err != nil || got.Reports != ReportsNone {
		t.Errorf("turned off without provenance: got %+v and %v", got, err)
	}
	if got := Default().Reports; got != ReportsNone {
		t.Errorf("without the setting: got %q", got)
	}
}

func TestParse_ReadsStorage(t *testing.T) {
	got, err := Parse(map[string]string{
		"artifacts.task.storage":          "tekton, oci",
		"artifacts.pipeline.storage":      "oci",
		"trustedresources.oci.repository": "registry.example/tekton",
	})
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[resource.Kind][2]bool{
		resource.Task: {true, true}, resource.Pipeline: {false, true}, resource.StepAction: {true, false},
	} {
		if got := [2]bool{got.Stores(kind, StorageTekton), got.Stores(kind, StorageOCI)}; got != want {
			t.Errorf("%s is stored in annotation and registry: %v, want %v", kind, got, want)
		}
	}
	if got.Repository != "registry.example/tekton" {
		t.Errorf("repository: got %q", got.Repository)
	}
}

func TestParse_ReadsGate(t *testing.T) {
	for name, tc := range map[string]struct {
		data map[string]string
		want Gate
	}{
		"defaults": {nil, Gate{Unmatched: GateRefuse, Inline: GateRefuse, Overrides: GateAllow}},
		"others": {map[string]string{
			"trustedresources.gate.unmatched": "allow", "trustedresources.gate.inline": "allow", "trustedresources.gate.overrides": "refuse",
		}, Gate{Unmatched: GateAllow, Inline: GateAllow, Overrides: GateRefuse}},
	} {
		if got, err := Parse(tc.data); err != nil || got.Gate != tc.want {
			t.Errorf("%s: got %+v, error %v, want %+v", name, got, err, tc.want)
		}
	}
}

func TestParse_RejectsInvalidSettings(t *testing.T) {
	for name, tc := range map[string]struct {
		data map[string]string
		want []string
	}{
		"unknown signer":        {map[string]string{"artifacts.task.signer": "pgp"}, []string{"artifacts.task.signer", `"pgp"`, "none, x509, kms"}},
		"empty signer":          {map[string]string{"artifacts.task.signer": ""}, []string{`""`}},
		"upper case":            {map[string]string{"artifacts.pipeline.signer": "X509"}, []string{`"X509"`}},
		"unknown storage":       {map[string]string{"artifacts.task.storage": "tekton,s3"}, []string{"artifacts.task.storage", `"s3"`, "tekton, oci"}},
		"no storage":            {map[string]string{"artifacts.task.storage": ""}, []string{"artifacts.task.storage", `""`}},
		"a storage twice":       {map[string]string{"artifacts.task.storage": "oci,oci"}, []string{"artifacts.task.storage", "twice"}},
		"no repository":         {map[string]string{"artifacts.task.storage": "oci"}, []string{"trustedresources.oci.repository", "missing", "artifacts.task.storage"}},
		"a repository with tag": {map[string]string{"trustedresources.oci.repository": "registry.example/tekton:v1"}, []string{"trustedresources.oci.repository", "registry.example/tekton:v1"}},
		"a registry alone":      {map[string]string{"trustedresources.oci.repository": "registry.example"}, []string{"trustedresources.oci.repository"}},
		"no registry":           {map[string]string{"trustedresources.oci.repository": "tekton/bundles"}, []string{"trustedresources.oci.repository"}},
		"a repository of dots":  {map[string]string{"trustedresources.oci.repository": "registry.example/../x"}, []string{"trustedresources.oci.repository"}},
		"a long repository":     {map[string]string{"trustedresources.oci.repository": "registry.example/" + strings.Repeat("x", 200)}, []string{"217", "190"}},
		"unknown reports":       {map[string]string{"trustedresources.reports": "wgpolicy"}, []string{"trustedresources.reports", `"wgpolicy"`, "none, openreports"}},
		"reports alone":         {map[string]string{"trustedresources.reports": "openreports"}, []string{"trustedresources.reports", "trustedresources.provenance.enabled", "set"}},
		"unknown requester":     {map[string]string{"trustedresources.requester": "on"}, []string{"trustedresources.requester", `"on"`, "off, record, required"}},
		"unknown namespaces":    {map[string]string{"trustedresources.namespaces": "some"}, []string{"labelled, all"}},
		"gate waits":            {map[string]string{"trustedresources.gate.unmatched": "wait"}, []string{"trustedresources.gate.unmatched", `"wait"`, "refuse, allow"}},
		"empty gate setting":    {map[string]string{"trustedresources.gate.inline": ""}, []string{"trustedresources.gate.inline"}},
		"gate misspelt":         {map[string]string{"trustedresources.gate.override": "allow"}, []string{"unknown key"}},
		"misspelt key":          {map[string]string{"artifacts.stepaction.singer": "x509"}, []string{"artifacts.stepaction.singer", "unknown key"}},
		"unknown key of ours":   {map[string]string{"trustedresources.magic": "on"}, []string{"trustedresources.magic"}},
		"a long value":          {map[string]string{"artifacts.task.signer": strings.Repeat("x", 1<<20)}, []string{"xxx…"}},
		"all at once":           {map[string]string{"artifacts.task.signer": "a", "artifacts.pipeline.signer": "b"}, []string{"artifacts.task", "artifacts.pipeline"}},
		"token of a KMS":        {map[string]string{"signers.kms.auth.token": "s3cr3t"}, []string{"signers.kms.auth.token:", "signers.kms.auth.token-path"}},
		"token beside its file": {map[string]string{"signers.kms.auth.token": "s3cr3t", "signers.kms.auth.token-path": "/f"}, []string{"signers.kms.auth.token:"}},
		"Chains' own":           {map[string]string{"artifacts.taskrun.format": "odd"}, []string{"Tekton Chains", "odd"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(tc.data)
			if err == nil {
				t.Fatal("was accepted")
			}
			if len(err.Error()) > 1000 {
				t.Errorf("the error is %d bytes long", len(err.Error()))
			}
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("%q contains the token", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

func TestParse_AcceptsFileWithToken(t *testing.T) {
	const file = "/etc/signing-secrets/kms"
	got, err := Parse(map[string]string{kmsAuthKey + "-path": file, kmsAuthKey: ""})
	if err != nil || got.Chains.Signers.KMS.Auth.TokenPath != file {
		t.Errorf("got %v", err)
	}
}

func TestWithoutToken_RemovesTheTokenOnly(t *testing.T) {
	cm := &corev1.ConfigMap{Data: map[string]string{"signers.kms.auth.token": "s3cr3t", "signers.kms.kmsref": "hashivault://key"}}
	if got := WithoutToken(cm).Data; len(got) != 1 || got["signers.kms.kmsref"] != "hashivault://key" {
		t.Errorf("got %v", got)
	}
	if cm.Data["signers.kms.auth.token"] != "s3cr3t" {
		t.Error("the ConfigMap of the informer was changed")
	}
	if same := WithoutToken(&corev1.ConfigMap{}); len(same.Data) != 0 {
		t.Errorf("got %v", same.Data)
	}
}

func TestConfig_Selects(t *testing.T) {
	for _, tc := range []struct {
		mode   NamespaceMode
		labels map[string]string
		want   bool
	}{
		{NamespacesLabelled, nil, false},
		{NamespacesLabelled, map[string]string{v1alpha1.SignLabel: "true"}, true},
		{NamespacesLabelled, map[string]string{v1alpha1.SignLabel: "false"}, false},
		{NamespacesLabelled, map[string]string{v1alpha1.SignLabel: "yes"}, false},
		{NamespacesAll, nil, true},
		{NamespacesAll, map[string]string{v1alpha1.SignLabel: "true"}, true},
		{NamespacesAll, map[string]string{v1alpha1.SignLabel: "false"}, false},
		{NamespacesAll, map[string]string{v1alpha1.SignLabel: "True"}, false},
	} {
		cfg := &Config{Namespaces: tc.mode}
		if got := cfg.Selects(tc.labels); got != tc.want {
			t.Errorf("%s with labels %v: got %v, want %v", tc.mode, tc.labels, got, tc.want)
		}
	}
}

func TestStore_KeepsLastGoodConfig(t *testing.T) {
	var loaded int
	var refusal error
	store := NewStore(func(*Config) { loaded++ }, func(_ *corev1.ConfigMap, err error) { refusal = err })
	if signer := store.Load().Signer(resource.Task); signer != SignerNone {
		t.Errorf("before any configuration the signer is %q", signer)
	}
	store.Update(&corev1.ConfigMap{Data: map[string]string{"artifacts.task.signer": "x509"}})
	store.Update(&corev1.ConfigMap{Data: map[string]string{"artifacts.task.signer": "rot13"}})
	if signer := store.Load().Signer(resource.Task); signer != "x509" {
		t.Errorf("after a bad configuration the signer is %q", signer)
	}
	if loaded != 1 || refusal == nil {
		t.Errorf("got %d loads and refusal %v, want 1 and an error", loaded, refusal)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("artifacts.task.signer", "x509")
	f.Add("trustedresources.namespaces", "all")
	f.Add("artifacts.stepaction.storage", "tekton,oci")
	f.Add("trustedresources.policies.kms", "awskms:///alias/, hashivault://team-a")
	f.Add("trustedresources.policies.secrets", "own-namespace")
	f.Add("trustedresources.audit.sinks", "stdout, file")
	f.Add("trustedresources.audit.webhook-url", "https://user@siem.example:443/events?key=x")
	f.Fuzz(func(t *testing.T, key, value string) {
		cfg, err := Parse(map[string]string{key: value})
		if (cfg == nil) == (err == nil) {
			t.Fatalf("got %v and %v", cfg, err)
		}
		if err == nil && ours(key) {
			for _, signer := range cfg.SignerTypes() {
				if signer != "x509" && signer != "kms" {
					t.Fatalf("accepted signer %q", signer)
				}
			}
		}
	})
}

// The example in config/ must be a valid configuration.
func TestParse_AcceptsShippedExample(t *testing.T) {
	file, err := os.ReadFile("../../config/300-chains-config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var cm corev1.ConfigMap
	if err := yaml.UnmarshalStrict(file, &cm); err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(cm.Data); err != nil {
		t.Errorf("as shipped: %v", err)
	}
	var example map[string]string
	if err := yaml.UnmarshalStrict([]byte(cm.Data["_example"]), &example); err != nil {
		t.Fatal(err)
	}
	cfg, err := Parse(example)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range resource.Kinds {
		if cfg.Signer(kind) != "x509" {
			t.Errorf("the example does not set the signer of %s", kind)
		}
	}
	for key := range example {
		if !ours(key) {
			t.Errorf("%s is none of ours", key)
		}
	}
}
