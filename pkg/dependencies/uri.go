// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"fmt"
	"strings"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// resolverCluster is the name of Tekton's cluster resolver.
const resolverCluster = "cluster"

// sha256Digest is the key of a SHA-256 in a source's digest. The cluster resolver
// records Tekton's checksum of the resource under it.
const sha256Digest = "sha256"

// clusterURI returns the URI that Tekton's cluster resolver records
// (pkg/resolution/resolver/cluster in tektoncd/pipeline). The version is that of
// Task and Pipeline for every kind. The UID is left out if it is empty.
func clusterURI(kind resource.Kind, namespace, name string, uid types.UID) string {
	uri := fmt.Sprintf("/apis/%s/namespaces/%s/%s/%s", v1.SchemeGroupVersion, namespace, strings.ToLower(string(kind)), name)
	if uid != "" {
		uri += "@" + string(uid)
	}
	return uri
}

// parseClusterURI returns the namespace and the name in a URI of clusterURI.
func parseClusterURI(uri string) (namespace, name string, ok bool) {
	path, found := strings.CutPrefix(uri, "/apis/"+v1.SchemeGroupVersion.String()+"/namespaces/")
	parts := strings.Split(path, "/")
	if !found || len(parts) != 3 {
		return "", "", false
	}
	name, _, _ = strings.Cut(parts[2], "@")
	return parts[0], name, parts[0] != "" && name != ""
}
