// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/url"
	"strings"
	"testing"
)

func parse(t *testing.T, data map[string]string) *Config {
	t.Helper()
	c, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAllowKMS_ComparesWithList(t *testing.T) {
	const list = "hashivault://team-a, hashivault://team-b-, awskms:///alias/ci/, awskms://kms.example:8443/, azurekms://a.vault.azure.net/, " +
		"gcpkms://projects/p/"
	c := parse(t, map[string]string{"trustedresources.policies.kms": list, "signers.kms.kmsref": "hashivault://signer"})
	for reference, want := range map[string]bool{
		"hashivault://signer":       true, // the signer's, which is not in the list
		"hashivault://signer-2":     false,
		"hashivault://team-a":       true,
		"hashivault://team-a-2":     false,
		"hashivault://team":         false,
		"hashivault://team-b-":      true,
		"hashivault://team-b-x":     true,
		"hashivault://team-b":       false,
		"hashivault://team-bx":      false,
		"HASHIVAULT://team-a":       false,
		"hashivault://Team-a":       false,
		"openbao://team-a":          false,
		"hashivault://":             false,
		" " + "hashivault://team-a": false,
		"hashivault://team-a\n":     false,
		"hashivault://team-a\x00":   false,

		"awskms:///alias/ci/x":                          true,
		"awskms:///alias/ci":                            false,
		"awskms:///alias/other":                         false,
		"awskms:///alias/ci/../other":                   false,
		"awskms:///alias/ci/%2e%2e/other":               false,
		"awskms://evil.example/alias/ci/x":              false,
		"awskms://evil.example/awskms:///alias/ci/x":    false,
		"awskms://kms.example:8443/alias/x":             true,
		"awskms://kms.example:84431/alias/x":            false,
		"awskms://kms.example:8443@evil.example/key":    false,
		"awskms://kms.example:8443/@evil.example/key":   false,
		"awskms://kms.example:8443/alias/x?host=evil":   false,
		"awskms://kms.example:8443/alias/x#evil":        false,
		`awskms://kms.example:8443\.evil.example/alias`: false,
		"awskms://KMS.example:8443/alias/x":             false,
		"awskms://kms.example/alias/x":                  false,

		"azurekms://a.vault.azure.net/key":              true,
		"azurekms://a.vault.azure.net.evil.example/key": false,
		"gcpkms://projects/p/locations/l":               true,
		"gcpkms://projects/p2/locations/l":              false,
		"sh://key":                                      false,
		"":                                              false,
		"hashivault://team-b-" + strings.Repeat("x", maxReference): false,
	} {
		if err := c.AllowKMS(reference); (err == nil) != want {
			t.Errorf("%q: got %v, want allowed: %t", reference, err, want)
		} else if err != nil && (!strings.Contains(err.Error(), policyKMSKey) || len(err.Error()) > 300) {
			t.Errorf("%q: the error does not name the setting, or is too long: %v", reference, err)
		}
	}
}

func TestAllowKMS_AllowsOnlyTheSignersByDefault(t *testing.T) {
	for _, c := range []*Config{Default(), parse(t, nil)} {
		for _, reference := range []string{"", "hashivault://key", "awskms:///alias/x"} {
			if c.AllowKMS(reference) == nil {
				t.Errorf("%q is allowed without a setting", reference)
			}
		}
	}
	c := parse(t, map[string]string{"signers.kms.kmsref": "awskms:///alias/signer"})
	if err := c.AllowKMS("awskms:///alias/signer"); err != nil {
		t.Errorf("the signer's own: %v", err)
	}
	if c.AllowKMS("awskms:///alias/signer2") == nil || c.AllowKMS("awskms:///alias/") == nil {
		t.Error("another reference than the signer's own is allowed")
	}
}

func TestAllowSecret_FollowsSetting(t *testing.T) {
	for setting, wantForeign := range map[string]bool{"": true, "any": true, "own-namespace": false} {
		data := map[string]string{"trustedresources.policies.secrets": setting}
		if setting == "" {
			data = nil
		}
		c := parse(t, data)
		if err := c.AllowSecret("ns", "ns"); err != nil {
			t.Errorf("%q, own namespace: %v", setting, err)
		}
		for _, foreign := range []string{"other", "", "NS", "ns "} {
			err := c.AllowSecret("ns", foreign)
			if (err == nil) != wantForeign {
				t.Errorf("%q, namespace %q: got %v, want allowed: %t", setting, foreign, err, wantForeign)
			}
			if err != nil && !strings.Contains(err.Error(), policySecretsKey) {
				t.Errorf("%q does not name the setting", err)
			}
		}
	}
}

func TestParse_RejectsInvalidPolicySettings(t *testing.T) {
	const kms = "trustedresources.policies.kms"
	for name, tc := range map[string]struct {
		value string
		want  []string
	}{
		"empty":                 {"", []string{`""`, "hashivault://"}},
		"empty entry":           {"hashivault://a,", []string{`""`}},
		"no scheme":             {"hashivault", []string{`"hashivault"`, "hashivault://"}},
		"every KMS":             {"*", []string{`"*"`}},
		"program":               {"sh://key", []string{`"sh://key"`, "gcpkms://"}},
		"upper case":            {"AWSKMS:///alias/x", []string{`"AWSKMS:///alias/x"`}},
		"every host of AWS":     {"awskms://", []string{"host", "awskms:///"}},
		"part of a host":        {"awskms://kms.eu-west-1.amazonaws.com", []string{"whole host"}},
		"every Azure vault":     {"azurekms://", []string{"host"}},
		"wildcard":              {"hashivault://team-*", []string{`team-*"`, "letters, digits"}},
		"user":                  {"awskms://kms.example@evil.example/key", []string{"letters, digits"}},
		"encoded":               {"awskms:///alias/%2e", []string{"letters, digits"}},
		"parent":                {"awskms:///alias/../x", []string{`".."`}},
		"twice":                 {"hashivault://a,hashivault://a", []string{"twice"}},
		"long":                  {"hashivault://" + strings.Repeat("x", maxReference), []string{"525", "512"}},
		"many":                  {strings.Repeat("hashivault://a,", maxReferences) + "hashivault://a", []string{"101", "100"}},
		"correct and incorrect": {"hashivault://a,b", []string{`"b"`}},
	} {
		t.Run(name, func(t *testing.T) {
			expectRefused(t, map[string]string{kms: tc.value}, append(tc.want, kms))
		})
	}
	expectRefused(t, map[string]string{"trustedresources.policies.secrets": "own"},
		[]string{"trustedresources.policies.secrets", `"own"`, "any, own-namespace"})
}

func expectRefused(t *testing.T, data map[string]string, want []string) {
	t.Helper()
	_, err := Parse(data)
	if err == nil {
		t.Fatal("was accepted")
	}
	for _, want := range want {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

// An allowed reference has the scheme and, if it has a host, the host of an entry, as
// net/url reads them: the clients of the KMS make URLs of references.
func FuzzAllowKMS(f *testing.F) {
	for _, entry := range []string{"awskms://kms.example/", "awskms:///alias/", "azurekms://v.vault.azure.net/key", "hashivault://team-", "hashivault://", "gcpkms://projects/p/"} {
		for _, reference := range []string{"awskms://kms.example/key", "awskms://kms.example@evil/key", "awskms:///alias/x", "azurekms://v.vault.azure.net/key", "hashivault://team-a", "awskms://evil/awskms://kms.example/"} {
			f.Add(entry, reference)
		}
	}
	f.Fuzz(func(t *testing.T, entry, reference string) {
		c, err := Parse(map[string]string{policyKMSKey: entry})
		if err != nil || c.AllowKMS(reference) != nil {
			return
		}
		allowed, err := url.Parse(reference)
		if err != nil {
			t.Fatalf("entry %q allows %q: %v", entry, reference, err)
		}
		for _, one := range c.policyKMS {
			listed, err := url.Parse(one)
			if err != nil {
				continue
			}
			sameHost := allowed.Host == listed.Host || listed.Scheme != "awskms" && listed.Scheme != "azurekms"
			if allowed.Scheme == listed.Scheme && sameHost && allowed.User == nil && strings.HasPrefix(reference, one) {
				return
			}
		}
		t.Fatalf("entry %q allows %q", entry, reference)
	})
}
