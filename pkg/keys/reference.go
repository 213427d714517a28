// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/sigstore/sigstore/pkg/signature/kms/aws"
	"github.com/sigstore/sigstore/pkg/signature/kms/azure"
	"github.com/sigstore/sigstore/pkg/signature/kms/gcp"
	"github.com/sigstore/sigstore/pkg/signature/kms/hashivault"
)

var (
	// plainReference has only characters that no URL decodes, so that no KMS client reads a
	// reference in another way than ValidateKMS.
	plainReference = regexp.MustCompile(`^[a-z0-9]+://[A-Za-z0-9._:/-]+$`)
	versionNumber  = regexp.MustCompile(`^[1-9][0-9]{0,8}$`)
	gcpVersion     = regexp.MustCompile(`/(?:cryptoKeyVersions|versions)/[1-9][0-9]{0,8}$`)
	// azureVersion is what Key Vault calls an identifier of 32 characters.
	azureVersion = regexp.MustCompile(`^azurekms://[^/]+/[^/]+/[a-z0-9]{32}$`)
)

// ValidateKMS reports why a reference and a version do not name one version of a key, which
// never changes. An alias, a key without a version, and an unknown KMS are refused.
func ValidateKMS(ref, version string) error {
	if err := validateKMS(ref, version); err != nil {
		return fmt.Errorf("%s: %w", kmsName(ref, version), err)
	}
	return nil
}

func validateKMS(ref, version string) error {
	if !plainReference.MatchString(ref) {
		return errors.New("found another character than letters, digits and . _ : / -, or no reference at all; " +
			"expected a reference such as hashivault://name")
	}
	if isVault(ref) {
		return validateVault(ref, version)
	}
	var err error
	switch scheme, _, _ := strings.Cut(ref, "://"); scheme + "://" {
	case aws.ReferenceScheme:
		err = validateAWS(ref)
	case gcp.ReferenceScheme:
		err = cmp.Or(gcp.ValidReference(ref), pinned(gcpVersion, ref,
			"found no number of a version at the end; append /cryptoKeyVersions/1 (gcloud kms keys versions list shows the versions)"))
	case azure.ReferenceScheme:
		err = cmp.Or(azure.ValidReference(ref), pinned(azureVersion, ref,
			"found no version of 32 characters at the end; append /VERSION (az keyvault key list-versions shows the versions)"))
	default:
		return fmt.Errorf("the KMS is not known; expected one of %s, %s, %s, %s, %s", hashivault.ReferenceScheme,
			hashivault.AlternativeScheme, aws.ReferenceScheme, gcp.ReferenceScheme, azure.ReferenceScheme)
	}
	if err == nil && version != "" {
		return errors.New("the reference has the version in it; remove the field version, which is for HashiCorp Vault and OpenBao only")
	}
	return err
}

func validateVault(ref, version string) error {
	if err := hashivault.ValidReference(ref); err != nil {
		return err
	}
	if !versionNumber.MatchString(version) {
		return fmt.Errorf("expected the number of a version in the field version, such as \"1\"; "+
			"vault read transit/keys/%s shows the versions", vaultKeyName(ref))
	}
	return nil
}

func validateAWS(ref string) error {
	if err := aws.ValidReference(ref); err != nil {
		return err
	}
	switch _, id, alias, err := aws.ParseReference(ref); {
	case err != nil:
		return err
	case alias != "":
		return errors.New("found an alias, which can point to another key tomorrow; use the ARN of the key, " +
			"awskms:///arn:aws:kms:REGION:ACCOUNT:key/ID (aws kms describe-key shows the ARN)")
	case !strings.HasPrefix(id, "arn:"):
		return errors.New("found the ID of a key, which depends on the account and region of the credentials; " +
			"use the ARN of the key, awskms:///arn:aws:kms:REGION:ACCOUNT:key/ID (aws kms describe-key shows the ARN)")
	}
	return nil
}

func pinned(pattern *regexp.Regexp, ref, problem string) error {
	if !pattern.MatchString(ref) {
		return errors.New(problem)
	}
	return nil
}

func isVault(ref string) bool {
	return strings.HasPrefix(ref, hashivault.ReferenceScheme) || strings.HasPrefix(ref, hashivault.AlternativeScheme)
}

// vaultKeyName returns the name of a key from a valid reference.
func vaultKeyName(ref string) string {
	_, name, _ := strings.Cut(ref, "://")
	return name
}

// kmsName names a version of a key in errors.
func kmsName(ref, version string) string {
	if version == "" {
		return fmt.Sprintf("KMS key %q", ref)
	}
	return fmt.Sprintf("KMS key %q, version %q", ref, version)
}
