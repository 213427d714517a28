// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// SignLabel on a namespace selects the resources of the namespace for signing
// ("true"), or excludes them (any other value).
const SignLabel = Group + "/sign"

// Annotations of the layers of Tekton bundles that the controller stores, in
// addition to the annotations of Tekton. With them, the manifest alone identifies
// the resource.
const (
	// BundleNamespaceAnnotation is the namespace of the resource in the layer.
	BundleNamespaceAnnotation = Group + "/namespace"
	// BundleChecksumAnnotation is Tekton's checksum of the resource in the layer,
	// in lower-case hex.
	BundleChecksumAnnotation = Group + "/checksum"
)
