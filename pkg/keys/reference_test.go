// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/trusted-resources/chains-extension/pkg/keys"
)

const (
	gcpKey   = "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k"
	azureKey = "azurekms://vault.vault.azure.net/tekton"
	awsKey   = "1234abcd-12ab-34cd-56ef-1234567890ab"
)

func TestValidateKMS_AcceptsPinnedVersions(t *testing.T) {
	for _, tc := range []struct{ ref, version string }{
		{"hashivault://tekton", "1"}, {"hashivault://tekton", "12"}, {"openbao://tekton", "3"},
		{"awskms:///" + fakeARN, ""}, {"awskms://localhost:4566/" + fakeARN, ""},
		{"awskms:///arn:aws-cn:kms:cn-north-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab", ""},
		{gcpKey + "/cryptoKeyVersions/1", ""}, {gcpKey + "/versions/12", ""},
		{azureKey + "/" + fakeAzureVersion, ""},
	} {
		if err := keys.ValidateKMS(tc.ref, tc.version); err != nil {
			t.Error(err)
		}
	}
}

func TestValidateKMS_RefusesWhatIsNotPinned(t *testing.T) {
	for _, tc := range []struct{ ref, version, want string }{
		{"hashivault://tekton", "", "vault read transit/keys/tekton"},
		{"openbao://tekton", "", "field version"},
		{"hashivault://tekton", "0", "field version"}, // Vault takes 0 for the latest
		{"hashivault://tekton", "latest", "field version"},
		{"hashivault://tekton", "-1", "field version"},
		{"hashivault://tekton", "01", "field version"},
		{"hashivault://tekton", "1 ", "field version"},
		{"hashivault://tekton/versions/1", "1", "hashivault://<key>"},
		{"hashivault://", "1", "another character"},
		{"awskms:///alias/tekton", "", "alias"},
		{"awskms:///" + fakeAlias, "", "alias"},
		{"awskms:///" + awsKey, "", "ARN"},
		{"awskms:///" + fakeARN, "1", "remove the field version"},
		{"awskms:///tekton", "", "awskms://"},
		{gcpKey, "", "/cryptoKeyVersions/1"},
		{gcpKey + "/cryptoKeyVersions/", "", "gcpkms://"},
		{gcpKey + "/cryptoKeyVersions/latest", "", "/cryptoKeyVersions/1"},
		{gcpKey + "/cryptoKeyVersions/0", "", "/cryptoKeyVersions/1"},
		{gcpKey + "/cryptoKeyVersions/1", "1", "remove the field version"},
		{azureKey, "", "/VERSION"},
		{azureKey + "/", "", "/VERSION"},
		{azureKey + "/latest", "", "/VERSION"},
		{azureKey + "/" + fakeAzureVersion, "2", "remove the field version"},
		{"azurekms://vault.vault.azure.net@evil.example/tekton/" + fakeAzureVersion, "", "another character"},
		{"k8s://namespace/secret", "", "not known"},
		{"plugin://key", "", "not known"}, // sigstore would run the program sigstore-kms-plugin
		{"tekton", "1", "no reference"},
		{"", "", "no reference"},
	} {
		err := keys.ValidateKMS(tc.ref, tc.version)
		checkNames(t, err, strconv.Quote(tc.ref), tc.want)
		if tc.version != "" {
			checkNames(t, err, strconv.Quote(tc.version))
		}
	}
}

// What is accepted names a version. The oracle looks at the end of the reference only.
func FuzzValidateKMS(f *testing.F) {
	for _, ref := range []string{
		"hashivault://tekton", "openbao://tekton", "awskms:///" + fakeARN, "awskms:///" + fakeAlias, "awskms:///" + awsKey,
		gcpKey, gcpKey + "/cryptoKeyVersions/1", azureKey, azureKey + "/" + fakeAzureVersion, "k8s://a/b", "",
	} {
		f.Add(ref, "")
		f.Add(ref, "1")
	}
	f.Fuzz(func(t *testing.T, ref, version string) {
		err := keys.ValidateKMS(ref, version)
		if err != nil {
			if !strings.Contains(err.Error(), strconv.Quote(ref)) {
				t.Errorf("%v does not name the reference %q", err, ref)
			}
			return
		}
		last := ref[strings.LastIndexByte(ref, '/')+1:]
		number := version
		switch scheme, _, _ := strings.Cut(ref, "://"); scheme {
		case "hashivault", "openbao":
		case "gcpkms":
			number = last
		case "awskms":
			if number = "1"; version != "" || !strings.Contains(ref, "/arn:") || !strings.HasSuffix(ref, ":key/"+last) {
				t.Errorf("accepted %q, version %q", ref, version)
			}
		case "azurekms":
			if number = "1"; version != "" || len(last) != len(fakeAzureVersion) || strings.Count(ref, "/") != 4 {
				t.Errorf("accepted %q, version %q", ref, version)
			}
		default:
			t.Errorf("accepted %q of an unknown KMS", ref)
		}
		if n, err := strconv.Atoi(number); err != nil || n < 1 {
			t.Errorf("accepted %q, version %q without the number of a version", ref, version)
		}
	})
}
