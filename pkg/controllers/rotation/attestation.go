// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tektoncd/chains/pkg/chains/signing"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// attestationKeys returns the IDs of the keys that sign attestations: that of the signing
// secret, and that of the KMS if runs are signed with it.
func attestationKeys(legacy *keys.Ring, signerTypes []string) (ids []string, err error) {
	signer, err := legacy.FileSigner(signing.TypeX509)
	switch {
	case err == nil:
		public, err := signer.PublicKey()
		if err != nil {
			return nil, err
		}
		id, err := keys.KeyID(public)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	case !errors.Is(err, keys.ErrNotSet):
		return nil, err
	}
	if slices.Contains(signerTypes, signing.TypeKMS) {
		key, err := legacy.Active(signing.TypeKMS)
		if err != nil {
			return ids, err
		}
		ids = append(ids, key.ID)
	}
	return ids, nil
}

// separate returns the condition AttestationKeySeparate. err says why some keys of
// attestations are not known.
func separate(status *v1alpha1.KeyRingStatus, attestationKeys []string, err error) metav1.Condition {
	condition := metav1.Condition{Type: v1alpha1.KeyRingAttestationKeySeparate, Status: metav1.ConditionTrue, Reason: v1alpha1.KeysSeparate, Message: "no key of the ring signs Chains' attestations"}
	if err != nil {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionUnknown, v1alpha1.KeysNotKnown, "the key of Chains' attestations is not known: "+err.Error()
	}
	for _, key := range status.Keys {
		switch {
		case key.State == v1alpha1.KeyRetired || key.State == v1alpha1.KeyRevoked:
		case key.KeyID == "":
			condition.Status, condition.Reason = metav1.ConditionUnknown, v1alpha1.KeysNotKnown
			condition.Message = fmt.Sprintf("the public half of key %q is not known", key.Name)
		case slices.Contains(attestationKeys, key.KeyID):
			condition.Status, condition.Reason = metav1.ConditionFalse, v1alpha1.KeyShared
			condition.Message = fmt.Sprintf("key %q also signs Chains' attestations: their content comes from the authors of runs, "+
				"and cosign accepts every statement of a key about an image; rotate to a key of its own", key.Name)
			return condition
		}
	}
	return condition
}
