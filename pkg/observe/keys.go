// SPDX-License-Identifier: Apache-2.0

package observe

import "time"

// KeyInfo says that there is a key. signer is empty for a key that signs nothing.
func KeyInfo(keyID, signer, role string) Measurement {
	return measurement(1, keyInfo, keyID, signer, role)
}

// KeyResources is the number of resources that a key of a KeyRing has signed.
func KeyResources(keyID, role string, count int64) Measurement {
	return measurement(float64(count), keyResources, keyID, role)
}

// KeyActiveSince says when a key of a KeyRing became active.
func KeyActiveSince(keyID string, since time.Time) Measurement {
	return measurement(float64(since.Unix()), keyActiveSince, keyID)
}

// SignerRequired says that a kind is signed by a type of signer.
func SignerRequired(signer string) Measurement { return measurement(1, signerRequired, signer) }
