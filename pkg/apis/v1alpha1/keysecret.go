// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// KeyAnnotation is on a Secret that tkn-trust key generate made. Its value names the key:
// "<KeyRing>/<name>".
const KeyAnnotation = Group + "/key"
