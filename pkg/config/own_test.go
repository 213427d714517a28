// SPDX-License-Identifier: Apache-2.0

package config

import (
	"strings"
	"testing"

	chainsconfig "github.com/tektoncd/chains/pkg/config"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

type data = map[string]string

func TestParseBoth_ReadsOurSettingsFromEither(t *testing.T) {
	settings := data{"artifacts.task.signer": "x509", "trustedresources.namespaces": "all"}
	for name, tc := range map[string]struct{ chains, own data }{
		"chains-config":          {settings, nil},
		"our own":                {nil, settings},
		"our own beside Chains'": {data{"artifacts.taskrun.format": "slsa/v2alpha4"}, settings},
		"chains-config, with only an example in our own": {settings, data{"_example": "artifacts.task.signer: kms"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseBoth(tc.chains, tc.own)
			if err != nil {
				t.Fatal(err)
			}
			if got.Signer(resource.Task) != "x509" || got.Namespaces != NamespacesAll {
				t.Errorf("got signer %q and namespaces %q", got.Signer(resource.Task), got.Namespaces)
			}
			if want := tc.chains["artifacts.taskrun.format"]; want != "" && got.Chains.Artifacts.TaskRuns.Format != want {
				t.Errorf("got the format %q of Chains, want %q", got.Chains.Artifacts.TaskRuns.Format, want)
			}
		})
	}
}

func TestParseBoth_Refuses(t *testing.T) {
	for name, tc := range map[string]struct {
		chains, own data
		message     string
	}{
		"two places":           {data{"artifacts.task.signer": "x509"}, data{"artifacts.pipeline.signer": "x509"}, "artifacts.task.signer"},
		"a setting of Chains":  {nil, data{"artifacts.taskrun.signer": "x509"}, "artifacts.taskrun.signer"},
		"a token":              {nil, data{kmsAuthKey: "secret"}, kmsAuthKey},
		"a misspelled setting": {nil, data{"trustedresources.namespace": "all"}, "trustedresources.namespace"},
		"a wrong value":        {nil, data{"artifacts.task.signer": "rot13"}, "rot13"},
		"a token in the other": {data{kmsAuthKey: "secret"}, data{"artifacts.task.signer": "x509"}, kmsAuthKey},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseBoth(tc.chains, tc.own)
			if err == nil || got != nil || !strings.Contains(err.Error(), tc.message) {
				t.Fatalf("got %+v and %v, want an error about %s", got, err, tc.message)
			}
			if strings.Contains(err.Error(), "secret\"") || strings.Contains(err.Error(), "= secret") {
				t.Errorf("the message has the token: %v", err)
			}
		})
	}
}

func TestStore_UsesBothConfigMaps(t *testing.T) {
	var refused []string
	store := NewStore(func(*Config) {}, func(cm *corev1.ConfigMap, _ error) { refused = append(refused, cm.Name) })
	update := func(name string, d data) {
		store.Update(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: d})
	}
	signer := func() string { return store.Load().Signer(resource.Task) }

	update(OwnConfigMap, data{"artifacts.task.signer": "x509"})
	if signer() != SignerNone {
		t.Error("our ConfigMap is in force before chains-config is known")
	}
	update(chainsconfig.ChainsConfig, nil)
	if signer() != "x509" || len(refused) > 0 {
		t.Errorf("got signer %q, refused %q", signer(), refused)
	}
	update(chainsconfig.ChainsConfig, data{"artifacts.task.signer": "kms"})
	if signer() != "x509" || len(refused) != 1 || refused[0] != chainsconfig.ChainsConfig {
		t.Errorf("after a second value: got signer %q, refused %q", signer(), refused)
	}
	update(OwnConfigMap, nil) // deleted
	if signer() != "kms" {
		t.Errorf("after our ConfigMap was deleted: got signer %q", signer())
	}
}
