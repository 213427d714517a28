package v1alpha1

// SignLabel on a namespace selects the resources of the namespace for signing
// ("true"), or excludes them (any other value).
const SignLabel = Group + "/sign"

// Annotations on the layers of Tekton bundles that the controller stores.
const (
	// BundleNamespaceAnnotation is the namespace of the resource in the layer.
	BundleNamespaceAnnotation = Group + "/namespace"
	// BundleChecksumAnnotation is Tekton's checksum of the resource in the layer,
	// in lower-case hex.
	BundleChecksumAnnotation = Group + "/checksum"
)
