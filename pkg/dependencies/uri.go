package dependencies

import (
	"fmt"
	"strings"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

const resolverCluster = "cluster"

// clusterURI is how Tekton's cluster resolver names a resource
// (pkg/resolution/resolver/cluster in tektoncd/pipeline): with the version of
// Task and Pipeline whatever the kind, and the UID if it is known.
func clusterURI(kind resource.Kind, namespace, name string, uid types.UID) string {
	uri := fmt.Sprintf("/apis/%s/namespaces/%s/%s/%s", v1.SchemeGroupVersion, namespace, strings.ToLower(string(kind)), name)
	if uid != "" {
		uri += "@" + string(uid)
	}
	return uri
}

// parseClusterURI is the inverse of clusterURI.
func parseClusterURI(uri string) (namespace, name string, ok bool) {
	path, found := strings.CutPrefix(uri, "/apis/"+v1.SchemeGroupVersion.String()+"/namespaces/")
	parts := strings.Split(path, "/")
	if !found || len(parts) != 3 {
		return "", "", false
	}
	name, _, _ = strings.Cut(parts[2], "@")
	return parts[0], name, parts[0] != "" && name != ""
}
